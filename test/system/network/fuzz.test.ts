/**
 * Whatever the configuration says of the network: one clear error, or rules that the kernel takes, and nothing but our
 * own tables is touched. A run that fails prints its seed.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import type { Config, PoolConfig } from "../../../src/config/types.ts";
import { parseConfig } from "../../../src/config.ts";
import { policyOf } from "../../../src/daemon/pool-policy.ts";
import { FleetingdError } from "../../../src/errors.ts";
import { run } from "../../../src/host/run.ts";
import { changeText, elementsOf } from "../../../src/network/nft-elements.ts";
import { policyReplacementText, type RuleOptions, rebuildText } from "../../../src/network/nft-text.ts";
import { DEFAULT_POLICY } from "../../../src/network/policy.ts";
import { slotNetwork } from "../../../src/network/slots.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

const RUNS = 400;
const TEXTS_PER_TRANSACTION = 20;
/** What would be seen if it got through. */
const INJECTIONS = ["flush ruleset", "add table ip injected", "delete table inet bystander"];

/** Mostly what an operator means, and now and then anything. */
const or = (usual: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
  fc.oneof(
    { weight: 60, arbitrary: usual },
    { weight: 1, arbitrary: fc.string({ unit: "binary" }) },
    { weight: 1, arbitrary: hostile },
    { weight: 1, arbitrary: fc.oneof(fc.integer(), fc.boolean(), fc.constant([])) },
  );
const hostile = fc
  .tuple(
    fc.constantFrom("", "10.0.0.0/8", "eth0", "fd00::/8", "1.1.1.1 tcp/1", "tcp/1"),
    fc.constantFrom(" }; ", '" }\n', "\n", ";", "\\\n", "\0", " } drop\n"),
    fc.constantFrom(...INJECTIONS),
    fc.constantFrom("", "\n#", "; add chain inet fleetingd { "),
  )
  .map((parts) => parts.join(""));
const prefix = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .tuple(fc.ipV4(), fc.integer({ min: 1, max: 32 }))
      .map(([address, length]) => `${address}/${length}`),
  },
  { weight: 4, arbitrary: fc.oneof(fc.ipV4(), fc.ipV6()) },
  { weight: 4, arbitrary: fc.constantFrom("private", "10.0.0.0/8", "fd00::/8", "2001:db8::/32", "::/1") },
  // An address inside a prefix is none, and neither has so many bits.
  {
    weight: 1,
    arbitrary: fc.tuple(fc.ipV6(), fc.nat(130)).map(([address, length]) => `${address}/${length}`),
  },
);
const port = fc.integer({ min: 1, max: 65_535 });
const ports = fc
  .tuple(fc.constantFrom("tcp", "udp"), port, fc.option(port))
  .map(([protocol, one, two]) =>
    two === null ? `${protocol}/${one}` : `${protocol}/${Math.min(one, two)}-${Math.max(one, two)}`,
  );
const allowed = fc.oneof(
  prefix,
  fc.tuple(prefix, ports).map((parts) => parts.join(" ").replace("private", "10.0.0.0/8")),
);
const count = (least: number, most: number): fc.Arbitrary<number> =>
  fc.oneof(fc.integer({ min: least, max: most }), fc.constantFrom(least, least + 1, most));
const list = (item: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> => fc.array(or(item), { maxLength: 3 });

const pools = fc.record(
  {
    vm_subnet: or(
      fc.constantFrom("172.16.120.0/24", "10.64.0.0/16", "172.16.120.", "10.0.0.0/8", "192.0.2.0/29"),
    ),
    vm_subnet6: or(fc.constantFrom("fd12:3456:789a::/64", "2001:db8::/120", "fd00::/32")),
    egress_interface: or(fc.constantFrom("auto", "eth0", "enp3s0", "br-lan", "eth0.100")),
    dns_servers: list(fc.ipV4()),
    egress: or(fc.constantFrom("all", "none")),
    egress_deny: list(prefix),
    egress_allow: list(allowed),
    host_services: list(ports),
    services: list(fc.constantFrom("dns", "registry_mirror", "package_cache")),
    bandwidth_up_mbit: or(count(0, 10_000)),
    bandwidth_down_mbit: or(count(0, 10_000)),
    max_connections: or(count(16, 1_000_000)),
    max_new_connections_per_second: or(count(1, 100_000)),
  },
  { requiredKeys: [] },
);
const loopback = fc
  .tuple(fc.ipV4(), port)
  .map(([address, number]) => `${address.replace(/^\d+/, "127")}:${number}`);
const hostTables = fc.record(
  { dns: or(loopback), registry_mirror: or(loopback), package_cache: or(loopback) },
  { requiredKeys: [] },
);
const names = fc.oneof(
  { weight: 9, arbitrary: fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/) },
  { weight: 1, arbitrary: fc.oneof(fc.string(), hostile) },
);

/** Everything that nft is ever asked because of a pool: rules from nothing, another policy in the place of one, VMs. */
function textsOf(name: string, pool: PoolConfig, services: Config["services"]): string {
  const policy = policyOf(name, pool, services);
  const before: RuleOptions = {
    subnets: [pool.subnet.cidr],
    subnets6: pool.subnet6 === undefined ? [] : [pool.subnet6.cidr],
    dnsServers: pool.dnsServers,
    hostServices: [],
    services,
    policies: new Map([[DEFAULT_POLICY.name, DEFAULT_POLICY]]),
  };
  const known: RuleOptions = {
    ...before,
    policies: new Map([...before.policies, [name, { ...DEFAULT_POLICY, name }]]),
  };
  const wanted: RuleOptions = { ...before, policies: new Map([...before.policies, [name, policy]]) };
  const elements = elementsOf(slotNetwork(pool.subnet, 0, pool.subnet6), pool.egressInterface);
  return [
    rebuildText(before, []),
    policyReplacementText(before, wanted, name),
    rebuildText(known, elements),
    policyReplacementText(known, wanted, name),
    changeText(elements, []),
    rebuildText(wanted, elements),
  ].join("");
}

failOnLeaks();

describe("any configuration of the network", { skip: needsNamespace() }, () => {
  const texts: string[] = [];
  let refused = 0;

  before(() => run("nft", ["add table inet bystander { chain c { counter accept; }; }"]));
  after(() => run("nft", ["delete table inet bystander"]));

  test("is refused by one clear error, or becomes rules", (t) => {
    fc.assert(
      fc.property(names, pools, hostTables, (name, keys, host) => {
        const table = (of: object): string =>
          Object.entries(of)
            .map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`)
            .join("");
        const text = `[services]\n${table(host)}[pools.${JSON.stringify(name)}]\n${table(keys)}`;
        try {
          const { pools, services } = parseConfig([{ path: "config.toml", text }]);
          texts.push(textsOf(name, pools[name] ?? assert.fail("the pool is missing"), services));
        } catch (error) {
          if (!(error instanceof FleetingdError)) throw error;
          assert.equal(error.code, "INVALID_CONFIG", error.message);
          refused += 1;
        }
      }),
      { numRuns: RUNS, verbose: true },
    );
    t.diagnostic(`${refused} refused, ${texts.length} accepted`);
    assert.ok(refused > RUNS / 20 && texts.length > RUNS / 10, "both happen");
  });

  test("of which the kernel takes each, and nothing else is touched", async () => {
    const bystander = (await run("nft", ["-a", "list", "ruleset"])).stdout;
    for (let at = 0; at < texts.length; at += TEXTS_PER_TRANSACTION) {
      const some = texts.slice(at, at + TEXTS_PER_TRANSACTION);
      await run("nft", ["-c", "-f", "-"], { input: some.join("") });
    }
    await run("nft", ["-f", "-"], { input: texts.at(-1) ?? "" });
    await run("nft", ["-f", "-"], { input: "delete table inet fleetingd\ndelete table arp fleetingd\n" });
    assert.equal((await run("nft", ["-a", "list", "ruleset"])).stdout, bystander);
  });
});
