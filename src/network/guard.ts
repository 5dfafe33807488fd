/**
 * The process that owns the guard's table (see guard-text.ts) and notices that somebody deletes tables.
 *
 * It outlives the daemon as VMs do, so they stay shut if the rules go while no daemon runs; the next one finds it by
 * its name. There is one in a network namespace.
 */
import { createHash } from "node:crypto";
import { mkdtemp, readlink, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FleetingdError, messageOf } from "../errors.ts";
import { ifExists } from "../host/files.ts";
import { isAlive, type ProcessIdentity, spawnDetached, terminateProcess } from "../host/process.ts";
import { listProcesses } from "../host/process-list.ts";
import { sleep } from "../host/wait.ts";
import type { Logger } from "../log.ts";
import { GUARD_COMMAND, GUARD_TABLE, WATCH_COMMAND } from "./guard-text.ts";
import { listJson, listTables } from "./nft.ts";

export interface Guard {
  /** Sees to it that it stands. A host whose nftables can't do this is told of once, and does without. */
  ensure(): Promise<void>;
  /**
   * Until `release`: calls `onChange` when a table was deleted, or when the guard itself has ended, and all
   * of `onTick` every two seconds.
   */
  watch(onChange: () => Promise<void>, onTick: readonly (() => void | Promise<void>)[]): void;
  /** Watches no more; the process and its table stay. */
  release(): Promise<void>;
  /** Ends the process, and its table with it. */
  stop(): Promise<void>;
}

const PROCESS_NAME = "fleetingd-guard";
const POLL_MS = 500;
/** What else is looked after has more time, and costs more where there are hundreds of VMs. */
const POLLS_PER_TICK = 4;
const START_TIMEOUT_MS = 2_000;
const START_POLL_MS = 10;
const TERMINATE_GRACE_MS = 2_000;

/** Whether VMs are shut while our rules are away; `auto`: unless that keeps this host's nft from listing tables as JSON. */
export type GuardSetting = boolean | "auto";

/** Otherwise than shutting VMs, it only watches. */
export function createGuard(setting: GuardSetting, logger: Logger): Guard {
  let shuts = setting !== false;
  let process: ProcessIdentity | undefined;
  let seenBytes = 0;
  let timer: NodeJS.Timeout | undefined;
  let polling: Promise<void> | undefined;

  const ensure = async (): Promise<void> => {
    if (process !== undefined && (await isAlive(process))) return;
    process = await findOrStart(shuts);
    seenBytes = (await outputBytes(process)) ?? 0;
    if (!shuts) return;
    if (!(await standsSoon(process))) {
      const needs = "Linux 5.12 and nftables 0.9.9";
      logger.warn(`${OPEN_FOR_A_MOMENT}: nftables has no tables with an owner here`, { needs });
    } else if (setting === "auto" && !(await areTablesListed(logger))) {
      const needs = "nftables 1.0.7, or rules_guard = true";
      logger.warn(
        `${OPEN_FOR_A_MOMENT}: \`nft -j list tables\` does not work here with one that has an owner`,
        { needs },
      );
      shuts = false;
      process = await findOrStart(shuts);
    }
  };

  const look = async (onChange: () => Promise<void>): Promise<void> => {
    const bytes = process && (await outputBytes(process));
    if (bytes === seenBytes) return;
    seenBytes = bytes ?? 0;
    await onChange();
  };

  const release = async (): Promise<void> => {
    clearTimeout(timer);
    timer = undefined;
    await polling;
  };

  return {
    ensure,
    release,
    watch(onChange, onTick) {
      if (timer !== undefined) return;
      let polls = 0;
      const poll = async (): Promise<void> => {
        try {
          await look(onChange);
          if (polls++ % POLLS_PER_TICK === 0) for (const look of onTick) await look();
        } catch (error) {
          seenBytes = -1;
          logger.error("the rules and ways out of VMs could not be looked after", {
            reason: messageOf(error),
          });
        }
        if (timer !== undefined) plan();
      };
      const plan = (): void => {
        timer = setTimeout(() => {
          polling = poll();
        }, POLL_MS).unref();
      };
      plan();
    },
    async stop() {
      await release();
      for (const { identity } of await findGuards()) await end(identity);
      process = undefined;
    },
  };
}

const OPEN_FOR_A_MOMENT = "VMs are open for a moment if somebody flushes the host's rules";

/** The one that there is, if it does this; there is no other afterwards. */
async function findOrStart(shuts: boolean): Promise<ProcessIdentity | undefined> {
  const commands = `${shuts ? GUARD_COMMAND : ""}${WATCH_COMMAND}`;
  const name = `${PROCESS_NAME}-${createHash("sha256").update(commands).digest("hex").slice(0, 8)}`;
  const guards = await findGuards();
  const found = guards.find((guard) => guard.arguments[0] === name)?.identity;
  for (const { identity } of guards) if (identity !== found) await end(identity);
  return found ?? (await start(name, commands));
}

/** Whether programs that read tables as JSON, such as firewalld, still can: nftables before 1.0.7 reads beyond an array. */
async function areTablesListed(logger: Logger): Promise<boolean> {
  try {
    await listJson(["tables"]);
    return true;
  } catch (error) {
    if (!(error instanceof FleetingdError)) throw error;
    logger.debug("tables can't be listed as JSON", { reason: messageOf(error) });
    return false;
  }
}

/** `nft -i`, whose input is a file that ends with a command that does not. */
async function start(name: string, commands: string): Promise<ProcessIdentity | undefined> {
  const folder = await mkdtemp(join(tmpdir(), `${PROCESS_NAME}-`));
  try {
    const inputPath = join(folder, "commands");
    await writeFile(inputPath, commands);
    const options = { inputPath, outputPath: join(folder, "output"), argv0: name, cwd: "/" };
    return (await spawnDetached("nft", ["-i"], options)).identity;
  } finally {
    // Both files live on for as long as the process has them open.
    await rm(folder, { recursive: true });
  }
}

async function standsSoon(process: ProcessIdentity | undefined): Promise<boolean> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (process !== undefined && performance.now() < deadline) {
    if ((await listTables()).has(`inet ${GUARD_TABLE}`)) return true;
    await sleep(START_POLL_MS);
  }
  return false;
}

/** How much it has said so far; undefined if it has ended. */
async function outputBytes(process: ProcessIdentity | undefined): Promise<number | undefined> {
  if (process === undefined || !(await isAlive(process))) return undefined;
  return (await ifExists(stat(`/proc/${process.pid}/fd/1`)))?.size;
}

async function findGuards(): ReturnType<typeof listProcesses> {
  const here = await namespaceOf("self");
  const named = (await listProcesses()).filter((found) => found.arguments[0]?.startsWith(`${PROCESS_NAME}-`));
  const namespaces = await Promise.all(named.map(({ identity }) => namespaceOf(String(identity.pid))));
  return named.filter((_, index) => namespaces[index] === here);
}

/** Undefined if it ended meanwhile. */
function namespaceOf(pid: string): Promise<string | undefined> {
  return ifExists(readlink(`/proc/${pid}/ns/net`));
}

async function end(process: ProcessIdentity): Promise<void> {
  await terminateProcess(process, TERMINATE_GRACE_MS);
}
