/**
 * Connections that a VM leaves behind in the kernel. Answers to them would reach the next VM that gets the address,
 * so they are forgotten before there is one. Each run of `conntrack` walks the kernel's whole table, so addresses whose
 * VMs go together are covered by as few prefixes as the VMs that stay allow.
 */
import { ip2long, long2ip, Netmask } from "netmask";
import { messageOf } from "../errors.ts";
import { findProgram } from "../host/files.ts";
import { readProc } from "../host/proc.ts";
import { run } from "../host/run.ts";
import type { Logger } from "../log.ts";
import { createBatcher } from "./batch.ts";
import { addressOfTap } from "./slots.ts";

export interface ConnectionForgetter {
  /**
   * Forgets the connections that the VM behind this TAP has opened, soon. If the program `conntrack` is missing or fails they
   * only age: addresses are reused as late as possible, so that is no reason to keep a VM's network.
   */
  forget(tapName: string): void;
  /** Resolves when those of this TAP, or all, are forgotten as far as that was asked. Never throws. */
  forgotten(tapName?: string): Promise<void>;
}

const TIMEOUT_MS = 10_000;
const NOTHING_DELETED = 1;
const MAX_ADDRESSES_PER_BATCH = 4096;
// Each mostly waits for the kernel.
const PROGRAMS_AT_ONCE = 4;

/**
 * @param liveTaps the TAPs of VMs that there are
 * @param subnets prefixes in which there are VMs only
 */
export function createConnectionForgetter(
  liveTaps: () => Promise<string[]>,
  subnets: () => readonly string[],
  logger: Logger,
): ConnectionForgetter {
  const pending = new Map<string, Promise<void>>();
  const batched = createBatcher<string>(async (tapNames) => {
    const program = await findProgram("conntrack");
    if (program === undefined) {
      logger.debug("conntrack is not installed, so connections of VMs age by themselves");
      return;
    }
    const prefixes = coveringPrefixes(addressesOf(tapNames), addressesOf(await liveTaps()), subnets());
    for (let at = 0; at < prefixes.length; at += PROGRAMS_AT_ONCE) {
      const some = prefixes.slice(at, at + PROGRAMS_AT_ONCE);
      await Promise.all(some.map((prefix) => forgetPrefix(program, prefix)));
    }
  }, MAX_ADDRESSES_PER_BATCH);

  return {
    forget(tapName) {
      const done = batched(tapName)
        .catch((error: unknown) =>
          logger.warn("a VM's connections could not be forgotten", {
            tap: tapName,
            reason: messageOf(error),
          }),
        )
        .finally(() => {
          if (pending.get(tapName) === done) pending.delete(tapName);
        });
      pending.set(tapName, done);
    },
    async forgotten(tapName) {
      await (tapName === undefined ? Promise.all(pending.values()) : pending.get(tapName));
    },
  };
}

/** The fewest prefixes that hold each of `gone`, no live address, and nothing outside the subnets but those of `gone`. */
export function coveringPrefixes(
  gone: readonly string[],
  live: readonly string[],
  subnets: readonly string[],
): string[] {
  const covers = (block: Netmask): string[] => {
    const inside = gone.filter((address) => block.contains(address));
    if (inside.length === 0) return [];
    return split(block, inside.map(ip2long), live.filter((address) => block.contains(address)).map(ip2long));
  };
  const blocks = subnets.map((cidr) => new Netmask(cidr));
  const strays = gone.filter((address) => !blocks.some((block) => block.contains(address)));
  return [...blocks.flatMap(covers), ...strays];
}

function split(block: Netmask, gone: readonly number[], live: readonly number[]): string[] {
  if (gone.length === 0) return [];
  if (live.length === 0) return [`${block.base}/${block.bitmask}`];
  // An address that is in use again.
  if (block.bitmask === 32) return [];
  const middle = ip2long(block.base) + 2 ** (31 - block.bitmask);
  const half = (base: string, isIn: (address: number) => boolean): string[] =>
    split(new Netmask(`${base}/${block.bitmask + 1}`), gone.filter(isIn), live.filter(isIn));
  return [
    ...half(block.base, (address) => address < middle),
    ...half(long2ip(middle), (address) => address >= middle),
  ];
}

function addressesOf(tapNames: readonly string[]): string[] {
  return tapNames.flatMap((tapName) => addressOfTap(tapName) ?? []);
}

async function forgetPrefix(program: string, prefix: string): Promise<void> {
  await run(program, ["-D", "--orig-src", prefix], {
    timeoutMs: TIMEOUT_MS,
    acceptedExitCodes: [0, NOTHING_DELETED],
  });
}

export interface ConnectionTable {
  entries: number;
  /** Beyond which the kernel drops the packets of new ones, VMs' and the host's own alike. */
  limit: number;
  isNearlyFull: boolean;
}

/** From this share on. */
const NEARLY_FULL = 0.9;

/** How full the kernel's table of connections is; undefined where it follows none, or any number. */
export function readConnectionTable(): ConnectionTable | undefined {
  const [entries, limit] = ["count", "max"].map((name) =>
    readProc(`/proc/sys/net/netfilter/nf_conntrack_${name}`),
  );
  // 0 is no limit.
  if (entries === undefined || limit === undefined || Number(limit) === 0) return undefined;
  const table = { entries: Number(entries), limit: Number(limit) };
  return { ...table, isNearlyFull: table.entries >= table.limit * NEARLY_FULL };
}
