/**
 * Snapshots: the template's memory is a file of its own, so that what Cloud Hypervisor writes is a small `state.json`, and the
 * `config.json` that a clone's is made of. A clone maps the memory privately.
 */
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { FleetingdError } from "../../errors.ts";
import { removeTree } from "../../host/files.ts";
import type { Snapshot, VmSpec } from "../driver.ts";
import { lend } from "./access.ts";
import type { CloudHypervisorApi } from "./api.ts";
import type { VmConfig } from "./vm-config.ts";

const CONFIG_FILE = "config.json";
const STATE_FILE = "state.json";
/** In the clone's directory, while it is restored. */
const RESTORE_DIRECTORY = "restore";
const PAUSE_TIMEOUT_MS = 5_000;

const savedSchema = z.looseObject({
  memory: z.looseObject({ zones: z.array(z.looseObject({ id: z.string() })).min(1) }),
  payload: z.looseObject({}),
  disks: z.array(z.looseObject({})).nullish(),
  net: z.array(z.looseObject({})).nullish(),
  vsock: z.looseObject({}).nullish(),
});

/** Pauses the guest and writes the state of its devices. @throws FleetingdError */
export async function saveState(
  api: CloudHypervisorApi,
  stateDirectory: string,
  timeoutMs: number,
): Promise<void> {
  if ((await api.info(PAUSE_TIMEOUT_MS)).state !== "Paused") await api.act("vm.pause", PAUSE_TIMEOUT_MS);
  await api.request("vm.snapshot", { destination_url: `file://${stateDirectory}` }, timeoutMs);
}

/** Brings the guest to where the template stood, as the VM of `config`; it is paused. @throws FleetingdError */
export async function restoreState(
  api: CloudHypervisorApi,
  vm: { spec: VmSpec; config: VmConfig; user: number | undefined },
  snapshot: Snapshot,
  timeoutMs: number,
): Promise<void> {
  const directory = join(vm.spec.directory, RESTORE_DIRECTORY);
  await mkdir(directory);
  try {
    const saved = await readFile(join(snapshot.stateDirectory, CONFIG_FILE), "utf8");
    const config = cloneConfig(saved, vm.config, snapshot.memoryPath);
    await writeFile(join(directory, CONFIG_FILE), JSON.stringify(config), { mode: 0o600 });
    await copyFile(join(snapshot.stateDirectory, STATE_FILE), join(directory, STATE_FILE));
    if (vm.user !== undefined) {
      await lend(
        vm.user,
        directory,
        [CONFIG_FILE, STATE_FILE].map((name) => join(directory, name)),
      );
    }
    await api.request("vm.restore", { source_url: `file://${directory}`, resume: false }, timeoutMs);
  } finally {
    await removeTree(directory);
  }
}

/**
 * The template's configuration with this clone's disks, network and memory: what a device is stays as it was. A MAC counts from the
 * clone's first reboot on.
 */
export function cloneConfig(saved: string, own: VmConfig, memoryPath: string): object {
  const template = savedSchema.safeParse(parseJson(saved));
  if (!template.success) {
    throw new FleetingdError("CORRUPT", "the snapshot's configuration is none of Cloud Hypervisor's", {
      cause: template.error,
    });
  }
  const { memory, disks, net, payload, vsock, ...rest } = template.data;
  const { landlock_enable, landlock_rules } = own;
  return {
    ...rest,
    memory: { ...memory, zones: memory.zones.map((zone) => ({ ...zone, file: memoryPath, shared: false })) },
    payload: { ...payload, ...own.payload },
    disks: (disks ?? []).map((disk, index) => ({ ...disk, ...own.disks?.[index] })),
    net: (net ?? []).map((nic, index) => ({ ...nic, ...own.net?.[index] })),
    ...(vsock && own.vsock ? { vsock: { ...vsock, ...own.vsock } } : {}),
    ...(landlock_enable === undefined ? {} : { landlock_enable, landlock_rules }),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // No schema takes this.
    return undefined;
  }
}
