/** Runs nft: applies text as one transaction, and reads back what is in our tables. */
import * as z from "zod";
import { FleetingdError, messageOf } from "../errors.ts";
import { run } from "../host/run.ts";
import { definitionOf, isVmSet, NFT_TABLE, type VmElement, type VmSetName } from "./nft-elements.ts";

export interface ElementCount {
  element: VmElement;
  packets: number;
  bytes: number;
}

/** What the kernel has of ours. */
export interface InstalledRules {
  /** The names of all chains: one of them says which static rules they are. */
  chains: ReadonlySet<string>;
  elements: VmElement[];
}

/** How long one call of nft may take. */
export const NFT_TIMEOUT_MS = 10_000;
/** And one that writes everything anew: hundreds of pools take seconds, and VMs are shut until it is done. */
export const REBUILD_TIMEOUT_MS = 60_000;

/**
 * Applies `text` as one transaction: all of it or nothing.
 * @throws FleetingdError MISSING_PROGRAM, PERMISSION, COMMAND_FAILED or TIMEOUT (then it is unknown which of the two).
 */
export async function applyNft(text: string, timeoutMs = NFT_TIMEOUT_MS): Promise<void> {
  // The text form, not -j: nft opens /dev/stdin by name there, which fails for the socket that Node gives it.
  await nft(["-f", "-"], text, timeoutMs);
}

/** Our tables as they are in the kernel; undefined if one of them is missing. */
export async function readInstalledRules(): Promise<InstalledRules | undefined> {
  const tables = await listTables();
  if (!tables.has(`inet ${NFT_TABLE}`) || !tables.has(`arp ${NFT_TABLE}`)) return undefined;
  const entries = [
    ...(await listJson(["table", "inet", NFT_TABLE])),
    ...(await listJson(["table", "arp", NFT_TABLE])),
  ];
  return {
    chains: new Set(entries.flatMap(({ chain }) => (chain === undefined ? [] : [chain.name]))),
    elements: elementCounts(entries).map(({ element }) => element),
  };
}

/** All tables by family and name: `inet fleetingd`. */
export async function listTables(): Promise<ReadonlySet<string>> {
  // As text: nft 1.0.6 and older fail on JSON of a table that has an owner, as the guard's has.
  const lines = (await listText(["tables"])).split("\n");
  return new Set(lines.flatMap((line) => /^table (\S+ \S+)/.exec(line)?.[1] ?? []));
}

/** The elements of one of our sets with their counters. @throws FleetingdError COMMAND_FAILED if there is no such set. */
export async function readElementCounts(set: VmSetName): Promise<ElementCount[]> {
  return elementCounts(await listJson(["set", definitionOf(set).family, NFT_TABLE, set]));
}

/** What `nft list` with these arguments prints for people. */
export async function listText(args: readonly string[]): Promise<string> {
  return (await nft(["list", ...args])).stdout;
}

/** What `nft -j list` with these arguments says, as far as we read it. */
export async function listJson(args: readonly string[]): Promise<NftEntry[]> {
  const { stdout } = await nft(["-j", "list", ...args]);
  try {
    return NFT_OUTPUT.parse(JSON.parse(stdout)).nftables;
  } catch (error) {
    throw new FleetingdError("INTERNAL", `nft list ${args.join(" ")} answered something unexpected`, {
      cause: error,
    });
  }
}

async function nft(
  args: readonly string[],
  input?: string,
  timeoutMs = NFT_TIMEOUT_MS,
): Promise<{ stdout: string }> {
  try {
    return await run("nft", args, { timeoutMs, ...(input === undefined ? {} : { input }) });
  } catch (error) {
    throw explainedNftError(error, input === undefined ? "read" : "change");
  }
}

/** The error itself, or PERMISSION if it means that. */
export function explainedNftError(error: unknown, wanted: "read" | "change"): unknown {
  if (!/Operation not permitted|must be root/.test(messageOf(error))) return error;
  return new FleetingdError("PERMISSION", `nft was not allowed to ${wanted} the rules`, {
    hint: "Run the daemon as root, or with CAP_NET_ADMIN.",
    cause: error,
  });
}

function elementCounts(entries: readonly NftEntry[]): ElementCount[] {
  return entries.flatMap(({ set }) => {
    if (set === undefined || !isVmSet(set.name)) return [];
    const name = set.name;
    return (
      ELEMENTS.parse(set.elem ?? [])
        // Another version's set may have other fields; its rules are about to be replaced as a whole.
        .filter(({ key }) => key.length === definitionOf(name).types.length)
        .map(({ key, packets, bytes }) => ({ element: { set: name, key }, packets, bytes }))
    );
  });
}

const KEY = z.union([
  z.string().transform((field) => [field]),
  z.object({ concat: z.array(z.string()) }).transform(({ concat }) => concat),
]);
const COUNTER = z.object({ packets: z.number(), bytes: z.number() });
const UNCOUNTED = { packets: 0, bytes: 0 };
const ELEMENTS = z.array(
  z.union([
    z
      .object({ elem: z.object({ val: KEY, counter: COUNTER }) })
      .transform(({ elem }) => ({ key: elem.val, ...elem.counter })),
    KEY.transform((key) => ({ key, ...UNCOUNTED })),
  ]),
);
const NAMED = z.object({ family: z.string(), name: z.string() });
const NFT_ENTRY = z.object({
  chain: NAMED.extend({
    table: z.string(),
    hook: z.string().optional(),
    policy: z.string().optional(),
  }).optional(),
  set: NAMED.extend({ elem: z.array(z.unknown()).optional() }).optional(),
});
const NFT_OUTPUT = z.object({ nftables: z.array(NFT_ENTRY) });
type NftEntry = z.infer<typeof NFT_ENTRY>;
