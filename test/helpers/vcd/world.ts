/** What a Cloud Director has: an organization with its data center, network, catalog and users, the vApps that were made, and tasks. */
import { randomUUID } from "node:crypto";
import type { XmlNode } from "../../../src/sources/vcd/xml.ts";

export interface Disk {
  id: string;
  sizeMb: number;
}

export interface Vm {
  kind: "vm";
  id: string;
  name: string;
  vapp: VApp;
  osType: string;
  cpus: number;
  cores: number;
  memoryMb: number;
  disks: Disk[];
  connection: { network: string; mode: string; address: string | undefined } | undefined;
  storageProfile: string;
  tpm: boolean;
  /** As it was last put. */
  customization: XmlNode;
  state: "off" | "on" | "unresolved" | "failed";
  /** Whether the customization that it has is yet to be done, by the guest's tools at the next boot. */
  customized: "pending" | "complete";
  /** When the guest has booted, in milliseconds of `performance.now()`. */
  upAt: number;
  /** Who was let in by the customization. */
  users: { username: string; authorizedKeys: readonly string[] };
}

export interface VApp {
  kind: "vApp";
  id: string;
  name: string;
  description: string;
  networks: string[];
  metadata: Map<string, string>;
  vms: Vm[];
  state: "unresolved" | "resolved" | "failed";
}

export interface Task {
  id: string;
  operation: string;
  status: "running" | "success" | "error" | "aborted";
  error: { message: string; minor: string } | undefined;
  /** What is busy with it. */
  owner: VApp | Vm;
  cancel(): void;
}

export interface Template {
  id: string;
  name: string;
  osType: string;
  vms: number;
  /** 8 can be used. */
  status: number;
  needsEula: boolean;
}

export interface Session {
  /** In milliseconds since 1970. */
  until: number;
  isProvider: boolean;
}

export interface World {
  org: { id: string; name: string };
  vdc: { id: string; name: string };
  network: { id: string; name: string };
  /** The addresses of the network's static pool. */
  pool: readonly string[];
  storageProfiles: { id: string; name: string }[];
  catalog: { id: string; name: string };
  templates: Template[];
  /** API tokens that are good. */
  tokens: Set<string>;
  /** By access token. */
  sessions: Map<string, Session>;
  vapps: VApp[];
  tasks: Map<string, Task>;
}

export const NAMES = {
  org: "ci-org",
  vdc: "ci vdc",
  network: "ci-net",
  catalog: "templates",
  linux: "debian-12",
  windows: "windows-2022",
  storageProfile: "fast",
} as const;
export const API_TOKEN = "api-token-0123456789abcdef";

/** @param pool addresses */
export function createWorld(pool: readonly string[]): World {
  const template = (name: string, osType: string, more: Partial<Template> = {}): Template => {
    return { id: randomUUID(), name, osType, vms: 1, status: 8, needsEula: false, ...more };
  };
  const thing = (name: string) => ({ id: randomUUID(), name });
  return {
    org: thing(NAMES.org),
    vdc: thing(NAMES.vdc),
    network: thing(NAMES.network),
    pool,
    storageProfiles: [thing("standard"), thing(NAMES.storageProfile)],
    catalog: thing(NAMES.catalog),
    templates: [
      template(NAMES.linux, "debian12_64Guest", { needsEula: true }),
      template(NAMES.windows, "windows2022srvNext_64Guest"),
      template("windows-11", "windows11_64Guest"),
      template("pair", "debian12_64Guest", { vms: 2 }),
      template("unfinished", "debian12_64Guest", { status: 0 }),
    ],
    tokens: new Set([API_TOKEN]),
    sessions: new Map(),
    vapps: [],
    tasks: new Map(),
  };
}

export function allVms(world: World): Vm[] {
  return world.vapps.flatMap(({ vms }) => vms);
}

/** Without VMs. */
export function createVApp(name: string, description: string): VApp {
  return {
    kind: "vApp",
    id: randomUUID(),
    name,
    description,
    networks: [],
    metadata: new Map(),
    vms: [],
    state: "unresolved",
  };
}

export function createVm(vapp: VApp, template: Template, name: string): Vm {
  return {
    kind: "vm",
    id: randomUUID(),
    name,
    vapp,
    osType: template.osType,
    cpus: 1,
    cores: 1,
    memoryMb: 1_024,
    disks: [{ id: "2000", sizeMb: 10_240 }],
    connection: undefined,
    storageProfile: "standard",
    tpm: false,
    customization: {
      Info: "Specifies Guest OS Customization Settings",
      Enabled: "true",
      ChangeSid: "false",
      VirtualMachineId: randomUUID(),
      JoinDomainEnabled: "false",
      UseOrgSettings: "false",
      AdminPasswordEnabled: "true",
      AdminPasswordAuto: "true",
      AdminAutoLogonEnabled: "false",
      AdminAutoLogonCount: "0",
      ResetPasswordRequired: "false",
      ComputerName: `${name}-001`,
    },
    state: "unresolved",
    customized: "pending",
    upAt: Number.POSITIVE_INFINITY,
    users: { username: template.osType.startsWith("win") ? "Administrator" : "root", authorizedKeys: [] },
  };
}
