/** What a VM's own user needs where the hypervisor's process is this user from the beginning. */
import { chown } from "node:fs/promises";
import { resolve } from "node:path";
import { makePassable } from "../../host/files.ts";
import type { TapOwner } from "../../network/taps.ts";
import type { LocalHost } from "./host.ts";

const ROOT = 0;

export function tapOwner({ hypervisor }: LocalHost, user: number | undefined): TapOwner | undefined {
  return user !== undefined && hypervisor.startsAsUser ? { uid: user } : undefined;
}

/** Lets users get to these folders through those of the daemon; what lies above is the operator's. */
export async function letPass(
  { hypervisor, stateDirectory }: LocalHost,
  diskDirectory: string,
  folders: readonly string[],
): Promise<void> {
  if (!hypervisor.startsAsUser) return;
  for (const root of [stateDirectory, diskDirectory]) {
    for (const folder of folders) await makePassable(resolve(root), folder);
  }
}

/** What is kept of a VM that has ended becomes root's: its user will be another VM's. */
export async function takeBack({ hypervisor }: Pick<LocalHost, "hypervisor">, path: string): Promise<void> {
  if (hypervisor.startsAsUser) await chown(path, ROOT, ROOT);
}
