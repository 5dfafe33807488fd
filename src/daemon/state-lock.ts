/**
 * One daemon to a state directory. The lock is a file that names a process; it holds for as long as that process lives,
 * so nothing has to wait or be cleared away after a crash.
 */
import { link, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { FleetingdError, systemErrorCode } from "../errors.ts";
import { ensureDirectory, readTextIfExists } from "../host/files.ts";
import { identifyProcess, isAlive, type ProcessIdentity } from "../host/process.ts";

const LOCK_FILE = "daemon.lock";
const ATTEMPTS = 3;

const identitySchema = z.object({ pid: z.number().int(), startTicks: z.number() });

/**
 * @returns what gives the directory free again
 * @throws FleetingdError ALREADY_EXISTS if a daemon that lives works on `stateDirectory`
 */
export async function lockState(stateDirectory: string): Promise<() => Promise<void>> {
  await ensureDirectory(stateDirectory);
  const path = join(stateDirectory, LOCK_FILE);
  const own = join(stateDirectory, `${LOCK_FILE}.${process.pid}`);
  const identity = await identifyProcess(process.pid);
  await writeFile(own, JSON.stringify(identity), { mode: 0o600 });
  try {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      // A link comes into being with its content, and only where there is none.
      if (await tryLink(own, path)) return () => rm(path, { force: true });
      const holder = await readHolder(path);
      if (holder !== undefined && (await isAlive(holder))) throw taken(stateDirectory, holder);
      await rm(path, { force: true });
    }
  } finally {
    await rm(own, { force: true });
  }
  throw taken(stateDirectory, undefined);
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

function taken(stateDirectory: string, holder: ProcessIdentity | undefined): FleetingdError {
  const who = holder === undefined ? "another daemon" : `another daemon (pid ${holder.pid})`;
  return new FleetingdError("ALREADY_EXISTS", `${who} works on the state directory ${stateDirectory}`, {
    hint: "Stop it first, or set daemon.state_directory to another path.",
  });
}
