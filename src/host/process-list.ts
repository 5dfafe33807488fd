/** Finds processes by what they are: the sweep for what no record names any more. */
import { readdir } from "node:fs/promises";
import { identifyProcess, type ProcessIdentity, processArguments, processUser } from "./process.ts";

export interface ListedProcess {
  identity: ProcessIdentity;
  arguments: readonly string[];
}

/** All living processes of this pid namespace that have arguments (kernel threads and zombies have none). */
export async function listProcesses(): Promise<ListedProcess[]> {
  const found = await Promise.all((await listPids()).map(describeProcess));
  return found.filter((process) => process !== undefined);
}

/** The uids that the processes of this pid namespace run as. */
export async function listProcessUsers(): Promise<Set<number>> {
  const users = await Promise.all((await listPids()).map(processUser));
  return new Set(users.filter((user) => user !== undefined));
}

async function listPids(): Promise<number[]> {
  return (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
}

async function describeProcess(pid: number): Promise<ListedProcess | undefined> {
  // Start time, arguments, start time: the pid may pass to another process between two reads.
  const identity = await identifyProcess(pid);
  const argumentVector = await processArguments(pid);
  const still = await identifyProcess(pid);
  if (identity === undefined || argumentVector === undefined || argumentVector.length === 0) return undefined;
  return still?.startTicks === identity.startTicks ? { identity, arguments: argumentVector } : undefined;
}
