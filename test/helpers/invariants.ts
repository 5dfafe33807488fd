/**
 * What holds at every moment, whatever is under way: each thing on the host belongs to a record whose state allows for it, and
 * an instance that is ready has all of its own. The daemon stands still while that is looked at, so nothing may be off by a
 * moment; programs that it has started may go on, but what they do is covered by a record already.
 */
import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { z } from "zod";
import { listDirectory, readTextIfExists } from "../../src/host/files.ts";
import { isAlive } from "../../src/host/process.ts";
import { listProcesses } from "../../src/host/process-list.ts";
import { parseVmProcess } from "../../src/hypervisor/qemu/arguments.ts";
import { ipList } from "../../src/network/ip.ts";
import { readInstalledRules } from "../../src/network/nft.ts";
import { elementsOf, type VmElement } from "../../src/network/nft-elements.ts";
import { isTapName } from "../../src/network/slots.ts";
import { policyGroup } from "../../src/network/tap-groups.ts";
import { type InstanceRecord, recordSchema } from "../../src/pool/instance.ts";
import { type LocalData, networkOf, parseLocalData } from "../../src/sources/local/vm.ts";
import type { StandInWorld } from "./stand-in-world.ts";
import { standStill } from "./stand-still.ts";

interface Instance {
  record: InstanceRecord;
  /** Undefined: nothing of it was made yet. */
  data: LocalData | undefined;
}

export interface InvariantOptions {
  world: StandInWorld;
  /** The daemon's. */
  pid: number;
  /** Instances whose record could not be written: the one on disk is older than what was done since. */
  unsaved: ReadonlySet<string>;
}

export async function assertInvariants(options: InvariantOptions): Promise<void> {
  try {
    await standStill(options.pid);
    await assertStillInvariants(options);
  } finally {
    process.kill(options.pid, "SIGCONT");
  }
}

async function assertStillInvariants({ world, unsaved }: InvariantOptions): Promise<void> {
  // What a program makes meanwhile has a record already; what it removes has none that would miss it.
  const instances = await readRecords(world.stateDirectory);
  const [pids, taps, elements, clones] = await Promise.all([
    vmPids(world.stateDirectory),
    tapGroups(),
    readInstalledRules().then((rules) => rules?.elements ?? []),
    listDirectory(join(world.diskDirectory, "clones")),
  ]);
  const owners = instances.flatMap(({ record, data }) =>
    data === undefined ? [] : [{ record, data, tap: networkOf(data).tapName }],
  );

  assertOwned("process", [...pids.keys()], new Set(owners.map(({ record }) => record.id)));
  assertOwned("TAP", [...taps.keys()], new Set(owners.map(({ tap }) => tap)));
  assertOwned("clone", clones, new Set(owners.map(({ data }) => basename(data.cloneDirectory))));
  const allowed = new Set(owners.flatMap(({ data }) => rulesOf(data)));
  assertOwned("rule", elements.map(ruleText), allowed);
  const slots = owners.map(({ tap }) => tap);
  assert.equal(new Set(slots).size, slots.length, `two VMs share a slot: ${slots.sort().join(", ")}`);

  const installed = new Set(elements.map(ruleText));
  for (const { record, data, tap } of owners) {
    const { id, state } = record;
    if (state !== "ready" || unsaved.has(id)) continue;
    assert.ok(data.process !== undefined, `${id} is ready, and its record names no process`);
    // It may have ended this moment; if it lives, it is the one that the record names.
    if (await isAlive(data.process)) assert.equal(pids.get(id), data.process.pid, `the process of ${id}`);
    assert.equal(
      taps.get(tap),
      policyGroup(record.pool),
      `${id} is ready: its TAP, and the policy of its pool`,
    );
    assert.ok(clones.includes(basename(data.cloneDirectory)), `${id} is ready and has no clone`);
    const missing = rulesOf(data).filter((rule) => !installed.has(rule));
    assert.deepEqual(missing, [], `${id} is ready and has not all of its rules`);
  }
}

function assertOwned(what: string, found: readonly string[], owned: ReadonlySet<string>): void {
  const strange = found.filter((one) => !owned.has(one));
  assert.deepEqual(strange, [], `each ${what} belongs to a record`);
}

async function readRecords(stateDirectory: string): Promise<Instance[]> {
  const root = join(stateDirectory, "vms");
  const found: Instance[] = [];
  for (const id of await listDirectory(root)) {
    const text = await readTextIfExists(join(root, id, "record.json"));
    // A folder that has no record yet, or none any more: nothing else may be there of it.
    if (text === undefined) continue;
    const record = recordSchema.parse(JSON.parse(text));
    found.push({ record, data: parseLocalData(id, record.data) });
  }
  return found;
}

/** By name. */
async function tapGroups(): Promise<Map<string, number>> {
  const links = await ipList(["link", "show"], z.object({ ifname: z.string(), group: z.string() }));
  return new Map(
    links.filter(({ ifname }) => isTapName(ifname)).map(({ ifname, group }) => [ifname, Number(group)]),
  );
}

/** By id. A prebuild's has no record. */
async function vmPids(stateDirectory: string): Promise<Map<string, number>> {
  const found = (await listProcesses()).flatMap(({ identity, arguments: words }) => {
    const vm = parseVmProcess(words);
    return vm?.directory.startsWith(join(stateDirectory, "vms/")) ? [[vm.id, identity.pid] as const] : [];
  });
  return new Map(found);
}

/** There is no way out of the suite's namespace. */
function rulesOf(data: LocalData): string[] {
  return elementsOf(networkOf(data), undefined).map(ruleText);
}

function ruleText({ set, key }: VmElement): string {
  return [set, ...key].join(" ");
}
