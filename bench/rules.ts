/** One more VM's rules beside many: our transaction, and the ruleset written anew as the program that this one replaces does. */
import { silentLogger } from "../src/log.ts";
import { applyNft } from "../src/network/nft.ts";
import { elementsOf } from "../src/network/nft-elements.ts";
import { DEFAULT_POLICY } from "../src/network/policy.ts";
import { createRuleset, type Ruleset } from "../src/network/ruleset.ts";
import { parseVmSubnet, type SlotNetwork, slotNetwork } from "../src/network/slots.ts";
import { createTaps } from "../src/network/taps.ts";
import type { Measurement } from "./measurement.ts";

/** The number of the VM that is added. */
export const VM_COUNTS = [1, 63, 250, 1000, 4000] as const;
const MOST = 4000;
/** Adding has to be that many times cheaper than writing anew. */
const CHEAPER: ReadonlyMap<number, number> = new Map([
  [1000, 50],
  [4000, 150],
]);
const FLAT = 1.3;

export const BENCH_SUBNET = parseVmSubnet("10.64.0.0/16");
const EGRESS = "lo";

/** Rules as a daemon has them, with the VMs of slots 0 to `count` - 1. */
export async function openRules(count: number): Promise<Ruleset> {
  const policies = new Map([[DEFAULT_POLICY.name, DEFAULT_POLICY]]);
  const subnets = [BENCH_SUBNET.cidr];
  const processUsers = { first: 1_900_000_000, last: 1_900_065_535 };
  const options = {
    subnets,
    subnets6: [],
    dnsServers: [],
    hostServices: [],
    services: [],
    processUsers,
    policies,
  };
  const rules = createRuleset(options, silentLogger);
  await rules.ensure();
  await Promise.all(
    Array.from({ length: count }, (_, slot) => setVm(rules, slotNetwork(BENCH_SUBNET, slot))),
  );
  return rules;
}

function setVm(rules: Ruleset, network: SlotNetwork): Promise<void> {
  return rules.set(network.tapName, elementsOf(network, EGRESS));
}

function adding(count: number): Measurement {
  const name = `nft.add.${count}.ms`;
  return {
    metrics: [{ name, ...(count === MOST ? { goal: { atMost: FLAT, of: "nft.add.1.ms" } } : {}) }],
    runs: 20,
    warmups: 3,
    async prepare() {
      const rules = await openRules(count - 1);
      const network = slotNetwork(BENCH_SUBNET, count - 1);
      return {
        async run() {
          const begunAt = performance.now();
          await setVm(rules, network);
          const ms = performance.now() - begunAt;
          await rules.set(network.tapName, []);
          return { [name]: ms };
        },
        close: () => rules.remove(),
      };
    },
  };
}

/** Three tables, deleted and written anew with every VM's rules in them; one has a chain at each VM's device. */
function rewriteText(count: number): string {
  const vms = Array.from({ length: count }, (_, slot) => slotNetwork(BENCH_SUBNET, slot));
  const filter = vms.flatMap(({ tapName, gateway, cidr }) => [
    `iifname "${tapName}" ip daddr ${gateway} drop`,
    `iifname "${tapName}" oifname "${EGRESS}" accept`,
    `oifname "${tapName}" ip daddr ${cidr} ct state established,related accept`,
  ]);
  const nat = vms.map(({ cidr }) => `ip saddr ${cidr} oifname "${EGRESS}" masquerade`);
  const devices = vms.map(({ tapName, macAddress, address }) =>
    chainText(tapName, `filter hook ingress device "${tapName}" priority 0`, [
      `ether saddr != ${macAddress} drop`,
      `arp saddr ip != ${address} drop`,
      `ip saddr != ${address} drop`,
    ]),
  );
  return [
    tableText("inet", chainText("main", "filter hook forward priority filter", filter)),
    tableText("ip", chainText("main", "nat hook postrouting priority srcnat", nat)),
    tableText("netdev", devices.join("")),
  ].join("");
}

function tableText(family: string, chains: string): string {
  return `${deletion(family)}table ${family} original {\n${chains}}\n`;
}

function chainText(name: string, type: string, rules: readonly string[]): string {
  return `\tchain ${name} {\n\t\ttype ${type}; policy accept;\n${rules.map((rule) => `\t\t${rule}\n`).join("")}\t}\n`;
}

/** Whether or not it is there. */
function deletion(family: string): string {
  return `add table ${family} original\ndelete table ${family} original\n`;
}

function rewriting(count: number): Measurement {
  const name = `nft.rewrite.${count}.ms`;
  return {
    metrics: [{ name }],
    runs: 5,
    warmups: 1,
    async prepare() {
      const taps = createTaps();
      const slots = Array.from({ length: count }, (_, slot) => slot);
      await Promise.all(
        slots.map((slot) => taps.create(slotNetwork(BENCH_SUBNET, slot), DEFAULT_POLICY.name)),
      );
      return {
        async run() {
          const begunAt = performance.now();
          await applyNft(rewriteText(count));
          return { [name]: performance.now() - begunAt };
        },
        async close() {
          await applyNft(["inet", "ip", "netdev"].map(deletion).join(""));
          await taps.removeAll();
        },
      };
    },
  };
}

/** How the two compare, as a metric of its own: the larger, the better. */
function comparing(count: number, times: number): Measurement {
  const name = `nft.add-by-rewrite.${count}.share`;
  return {
    metrics: [{ name, goal: { atMost: 1 / times } }],
    runs: 5,
    warmups: 2,
    async prepare() {
      const [add, rewrite] = [await adding(count).prepare(), await rewriting(count).prepare()];
      return {
        async run() {
          const rewritten = await rewrite.run();
          // No host has both: nft looks at everybody's chains, and the other way has thousands.
          await applyNft(["inet", "ip", "netdev"].map(deletion).join(""));
          await add.run();
          const added = await add.run();
          return {
            [name]: (added[`nft.add.${count}.ms`] ?? 0) / (rewritten[`nft.rewrite.${count}.ms`] ?? 0),
          };
        },
        async close() {
          await add.close();
          await rewrite.close();
        },
      };
    },
  };
}

const tap: Measurement = {
  metrics: [{ name: "tap.create.ms" }],
  runs: 20,
  warmups: 2,
  async prepare() {
    const taps = createTaps();
    const network = slotNetwork(BENCH_SUBNET, 0);
    return {
      async run() {
        const begunAt = performance.now();
        await taps.create(network, DEFAULT_POLICY.name);
        const ms = performance.now() - begunAt;
        await taps.remove(network.tapName);
        return { "tap.create.ms": ms };
      },
      close: () => taps.removeAll(),
    };
  },
};

export const rules: readonly Measurement[] = [
  ...VM_COUNTS.map(adding),
  ...VM_COUNTS.map(rewriting),
  ...[...CHEAPER].map(([count, times]) => comparing(count, times)),
  tap,
];
