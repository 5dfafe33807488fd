/**
 * One daemon to a state directory, and one to a network namespace: rules and TAPs of VMs that it does not know are left over
 * to it. A lock is a file that names a process; it holds for as long as that process lives, so nothing has to wait or be
 * cleared away after a crash.
 */
import { link, readlink, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { FleetingdError, systemErrorCode } from "../errors.ts";
import { ensureDirectory, readTextIfExists } from "../host/files.ts";
import { identifyProcess, isAlive, type ProcessIdentity } from "../host/process.ts";

const STATE_LOCK = "daemon.lock";
/** Of what is the host's and not one state directory's; gone with the next boot. */
const LOCKS = "/run";
const ATTEMPTS = 3;

const identitySchema = z.object({ pid: z.number().int(), startTicks: z.number() });

/**
 * @returns what gives both free again
 * @throws FleetingdError ALREADY_EXISTS if a daemon that lives works on `stateDirectory` or in this network namespace
 */
export async function lockHost(stateDirectory: string): Promise<() => Promise<void>> {
  const unlockState = await lockState(stateDirectory);
  try {
    const unlockNetwork = await lock(
      LOCKS,
      `fleetingd-network-${await networkNamespace()}.lock`,
      networkTaken,
    );
    return async () => {
      await unlockNetwork();
      await unlockState();
    };
  } catch (error) {
    await unlockState();
    throw error;
  }
}

/** @throws FleetingdError ALREADY_EXISTS if a daemon that lives works on `stateDirectory` */
export function lockState(stateDirectory: string): Promise<() => Promise<void>> {
  return lock(stateDirectory, STATE_LOCK, (who) => stateTaken(who, stateDirectory));
}

/** The number that the kernel knows it by. */
async function networkNamespace(): Promise<string> {
  return (await readlink("/proc/self/ns/net")).replace(/\D/g, "");
}

async function lock(
  directory: string,
  name: string,
  taken: (who: string) => FleetingdError,
): Promise<() => Promise<void>> {
  await ensureDirectory(directory);
  const path = join(directory, name);
  const own = join(directory, `${name}.${process.pid}`);
  const identity = await identifyProcess(process.pid);
  await writeFile(own, JSON.stringify(identity), { mode: 0o600 });
  try {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      // A link comes into being with its content, and only where there is none.
      if (await tryLink(own, path)) return () => rm(path, { force: true });
      const holder = await readHolder(path);
      if (holder !== undefined && (await isAlive(holder))) throw taken(`another daemon (pid ${holder.pid})`);
      await rm(path, { force: true });
    }
  } finally {
    await rm(own, { force: true });
  }
  throw taken("another daemon");
}

async function tryLink(existing: string, path: string): Promise<boolean> {
  try {
    await link(existing, path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "EEXIST") return false;
    throw error;
  }
}

async function readHolder(path: string): Promise<ProcessIdentity | undefined> {
  const text = await readTextIfExists(path);
  if (text === undefined) return undefined;
  const parsed = identitySchema.safeParse(parseJson(text));
  return parsed.success ? parsed.data : undefined;
}

/** A power cut may leave anything in a file; whoever wrote it is gone then. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function stateTaken(who: string, stateDirectory: string): FleetingdError {
  return new FleetingdError("ALREADY_EXISTS", `${who} works on the state directory ${stateDirectory}`, {
    hint: "Stop it first, or set daemon.state_directory to another path.",
  });
}

function networkTaken(who: string): FleetingdError {
  return new FleetingdError("ALREADY_EXISTS", `${who} looks after the VMs' network on this host`, {
    hint: "Stop it first: one daemon serves all pools of a host. A second one needs a network namespace of its own.",
  });
}
