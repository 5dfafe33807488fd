/** libvirt-gitlab-executor, a driver of the custom executor: what is fixed there, and what its arguments say. */

import { basename } from "node:path";
import { parseArgs } from "node:util";
import type { CustomExecutor } from "../../config/runner-file.ts";
import { assignment } from "../../config/to-toml.ts";
import type { Note } from "./answer.ts";

const PROGRAM = "libvirt-gci";
const STAGES = ["prepare", "run", "cleanup"] as const;
/** Of the storage pool `default`, where it usually is. */
export const BASE_IMAGES = "/var/lib/libvirt/images";
const IMAGE_SUFFIX = ".qcow2";
const UNKNOWN_IMAGE = "default";

export function isLibvirtExecutor(custom: CustomExecutor | undefined): custom is CustomExecutor {
  return custom !== undefined && STAGES.some((stage) => basename(custom[`${stage}_exec`]) === PROGRAM);
}

/** What every machine there is, in the keys that a `plugin_config` has for libvirt. */
export function keysOf(distro: string, maxInstances: number): Record<string, unknown> {
  return {
    libvirt_image: `${distro}${IMAGE_SUFFIX}`,
    libvirt_size: "c4-m8",
    libvirt_disk_size: "50GiB",
    username: "root",
    ...(maxInstances > 0 ? { max_instances: maxInstances } : {}),
  };
}

/**
 * Which base images jobs may want: the one that the arguments name, and those that there are.
 * @param files the names of what is in `BASE_IMAGES`
 */
export function distrosOf({ prepare_args: words }: CustomExecutor, files: readonly string[]): string[] {
  const { distro } = argumentsOf(words);
  const there = files
    .filter((file) => file.endsWith(IMAGE_SUFFIX))
    .map((file) => basename(file, IMAGE_SUFFIX));
  const all = [...new Set([...(distro === undefined ? [] : [distro]), ...there])];
  return all.length === 0 ? [UNKNOWN_IMAGE] : all;
}

export function executorNotes(
  custom: CustomExecutor,
  pools: ReadonlyMap<string, string>,
  lineOf: (key: string) => number,
): Note[] {
  const { distro, keyFile } = argumentsOf(custom.prepare_args);
  const renamed = [...pools].filter(([image, pool]) => image !== pool && image !== UNKNOWN_IMAGE);
  const note = (key: string, fate: Note["fate"], text: string): Note => ({
    key,
    line: lineOf(key),
    fate,
    text,
  });
  return [
    ...STAGES.flatMap((stage) => [
      note(`${stage}_exec`, "taken-over", "fleetingd"),
      note(`${stage}_args`, "taken-over", 'the same, after "executor"'),
    ]),
    ...(keyFile === undefined
      ? []
      : [
          note(
            "prepare_args",
            "unneeded",
            "--ssh-key-file has no meaning here: each machine has a key of its own",
          ),
        ]),
    ...(pools.has(UNKNOWN_IMAGE) && distro !== UNKNOWN_IMAGE
      ? [
          note(
            "prepare_args",
            "to-do",
            `no --distro is given, and there is no image in ${BASE_IMAGES}: name yours as image, and the pool after it`,
          ),
        ]
      : []),
    ...renamed.map(([image, pool]) =>
      note(
        "prepare_args",
        "to-do",
        `jobs that say DISTRO = ${JSON.stringify(image)} have to say ${JSON.stringify(pool)}`,
      ),
    ),
  ];
}

/** The lines that its entry has from now on. */
export function executorLines(custom: CustomExecutor, program: string): string[] {
  return [
    "[runners.custom]",
    ...STAGES.flatMap((stage) => [
      `  ${assignment(`${stage}_exec`, program)}`,
      `  ${assignment(`${stage}_args`, ["executor", ...custom[`${stage}_args`]])}`,
    ]),
  ];
}

function argumentsOf(words: readonly string[]): { distro: string | undefined; keyFile: string | undefined } {
  const { values } = parseArgs({
    args: [...words],
    strict: false,
    options: {
      debug: { type: "boolean" },
      distro: { type: "string", short: "d" },
      machine: { type: "string", short: "m" },
      "ssh-key-file": { type: "string" },
    },
  });
  const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
  return { distro: text(values.distro), keyFile: text(values["ssh-key-file"]) };
}
