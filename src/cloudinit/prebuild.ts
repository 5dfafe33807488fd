/** The user-data of the prebuild: boots a base image once and leaves what clones are made of. */
import Handlebars from "handlebars";
import { shellCommandOf } from "./extra-command.ts";
import { type ServiceUrls, serviceFiles, type WrittenFile } from "./services.ts";
import type { GuestFile, Templates } from "./templates.ts";
import { yamlValue } from "./yaml-text.ts";

/**
 * How clones of a golden image boot: `fast` in two stages, configured by a script of ours; `compatible` with whole cloud-init
 * at every start.
 */
export type BootProfile = "fast" | "compatible";

/** The user that every image has, with passwordless sudo and key login only. */
export const DEFAULT_USER = "ubuntu";
/** Run over SSH as the default user after the first login: starts the rest of the system, returns 0 when it is up. */
export const READY_COMMAND = "/usr/lib/fleetingd/ready";
/** In a fast image: makes a template of the machine, see templates/guest/template. */
const TEMPLATE_SCRIPT = "/usr/lib/fleetingd/template";
/** Run over SSH in a template that is up: frees what no clone needs. */
export const SETTLE_COMMAND = `sudo -n ${TEMPLATE_SCRIPT} settle`;
/** Run over SSH as a template's last command: when the login has ended, it waits on the channel for an identity. */
export const WAIT_COMMAND = "sudo -n systemctl start fleetingd-template.service";
/** The serial number of the disk that the prebuild writes its report to: raw, sparse, REPORT_DISK_MIB large. */
export const REPORT_DISK_SERIAL = "fleetingd-report";
export const REPORT_DISK_MIB = 64;
/** The prebuild says its steps on the console in lines that begin so. */
export const PREBUILD_CONSOLE_PREFIX = "fleetingd-prebuild: ";

export interface PrebuildInput extends ServiceUrls {
  bootProfile: BootProfile;
  /** Shell commands, run as root, in order, in one shell; the first that fails ends the prebuild. */
  extraCommands: readonly string[];
  /** Refresh the package lists; needs a network, as the next two do. */
  packageUpdate: boolean;
  packageUpgrade: boolean;
  packages: readonly string[];
}

/** Where a guest file goes, and with which permissions; scripts that only the prebuild runs vanish with /run. */
const PREBUILD = "/run/fleetingd-prebuild";
const COMMON_FILES: ReadonlyArray<[GuestFile, path: string, permissions: string]> = [
  ["prebuild-commands", `${PREBUILD}/run-commands`, "0644"],
  ["prebuild-finish", `${PREBUILD}/finish`, "0644"],
  ["prebuild-finish.service", "/run/systemd/system/fleetingd-prebuild-finish.service", "0644"],
  ["ready", READY_COMMAND, "0755"],
  ["cloud-init", `${PREBUILD}/cloud-init`, "0644"],
];
const FAST_FILES: ReadonlyArray<[GuestFile, path: string, permissions: string]> = [
  ["identity", "/usr/lib/fleetingd/identity", "0755"],
  ["fleetingd-identity.service", "/usr/lib/systemd/system/fleetingd-identity.service", "0644"],
  ["fleetingd-template.service", "/usr/lib/systemd/system/fleetingd-template.service", "0644"],
  ["template", TEMPLATE_SCRIPT, "0755"],
  ["fleetingd-early.target", "/usr/lib/systemd/system/fleetingd-early.target", "0644"],
  ["fleetingd-full.timer", "/usr/lib/systemd/system/fleetingd-full.timer", "0644"],
  ["fleetingd-full.service", "/usr/lib/systemd/system/fleetingd-full.service", "0644"],
  ["ssh.service.conf", "/etc/systemd/system/ssh.service.d/fleetingd.conf", "0644"],
  // Before any other file there: sshd takes the first value that it reads.
  ["sshd.conf", "/etc/ssh/sshd_config.d/00-fleetingd.conf", "0644"],
];

/** The user-data: the same input always gives the same text, so that it can be a part of the golden image's name. */
export function renderPrebuildUserData(input: PrebuildInput, templates: Templates): string {
  const handlebars = Handlebars.create();
  handlebars.registerHelper("yaml", (value: unknown) => yamlValue(value));
  const template = handlebars.compile(templates.userDataPrebuild, { noEscape: true, strict: true });
  return template({
    user: DEFAULT_USER,
    packageUpdate: input.packageUpdate,
    packageUpgrade: input.packageUpgrade,
    packages: input.packages,
    hasMirror: input.registryMirror !== undefined,
    files: writtenFiles(input, templates),
  });
}

/** The extra commands as the guest runs them, numbered as in the report. */
export function prebuildCommands(extraCommands: readonly string[]): string[] {
  return extraCommands.map(shellCommandOf);
}

function writtenFiles(input: PrebuildInput, templates: Templates): WrittenFile[] {
  const guestFiles = [...COMMON_FILES, ...(input.bootProfile === "fast" ? FAST_FILES : [])];
  const commands = prebuildCommands(input.extraCommands);
  return [
    { path: `${PREBUILD}/profile`, permissions: "0644", content: `${input.bootProfile}\n` },
    ...guestFiles.map(([name, path, permissions]) => ({ path, permissions, content: templates.guest[name] })),
    ...serviceFiles(input),
    ...commands.map((command, index) => ({
      path: `${PREBUILD}/commands/${commandName(index)}.sh`,
      permissions: "0600",
      content: `${command}\n`,
    })),
  ];
}

/** `0001` for the first: sorts as it counts. */
function commandName(index: number): string {
  return String(index + 1).padStart(4, "0");
}
