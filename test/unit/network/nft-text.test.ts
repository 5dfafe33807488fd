import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { FleetingdError } from "../../../src/errors.ts";
import { changeText, elementsOf } from "../../../src/network/nft-elements.ts";
import { type RuleOptions, rebuildText, removalText, rulesMarker } from "../../../src/network/nft-text.ts";
import { DEFAULT_POLICY } from "../../../src/network/policy.ts";
import { parseVmSubnet, slotNetwork, TAP_PREFIX } from "../../../src/network/slots.ts";

const NONE: RuleOptions = {
  subnets: [],
  subnets6: [],
  dnsServers: [],
  hostServices: [],
  services: [],
  processUsers: undefined,
  policies: new Map([[DEFAULT_POLICY.name, DEFAULT_POLICY]]),
};
const network = slotNetwork(parseVmSubnet("172.16.120."), 1);

const ADDED = `\
add element inet fleetingd guests { "fltapac107806" . 02:fc:ac:10:78:06 . 172.16.120.6 }
add element inet fleetingd back { "fltapac107806" . 172.16.120.6 }
add element arp fleetingd arp_guests { "fltapac107806" . 02:fc:ac:10:78:06 . 172.16.120.6 . 172.16.120.5 }
`;

describe("services on the host's loopback", () => {
  const services = [
    { name: "dns", address: "127.0.0.1", port: 5353 },
    { name: "registry_mirror", address: "127.0.0.2", port: 5000 },
  ] as const;

  test("are found at one address and let in by the policies that have them", () => {
    const policies = new Map([
      ["all", { ...DEFAULT_POLICY, name: "all", services }],
      ["none", { ...DEFAULT_POLICY, name: "none" }],
    ]);
    const text = rebuildText({ ...NONE, services, policies }, []);
    assert.match(
      text,
      /chain to_service \{\n\t\ttcp dport 53 dnat ip to 127.0.0.1:5353\n\t\tudp dport 53 dnat ip to 127.0.0.1:5353\n\t\ttcp dport 5000 dnat ip to 127.0.0.2:5000\n/,
    );
    const [before = "", after = ""] = text.split("chain from_none");
    assert.match(before, /ct status dnat ip daddr 127.0.0.1 udp dport 5353 accept/);
    assert.doesNotMatch(after.slice(0, after.indexOf("}\n\tchain")), /daddr 127/);
    assert.doesNotMatch(rebuildText(NONE, []), /dnat/);
  });

  test("are nowhere else", () => {
    for (const address of ["192.0.2.1", "127.0.0.1; accept", "::1"]) {
      const odd = [{ name: "dns", address, port: 53 }] as const;
      assert.throws(() => rebuildText({ ...NONE, services: odd }, []), { code: "INVALID_ARGUMENT" });
    }
  });
});

describe("the processes of VMs", () => {
  test("send nothing themselves, if they have users of their own", () => {
    const text = rebuildText({ ...NONE, processUsers: { first: 700_000, last: 700_999 } }, []);
    assert.match(text, /hook output priority filter; policy accept;\n\t\tmeta skuid 700000-700999 drop\n/);
    assert.doesNotMatch(rebuildText(NONE, []), /hook output|skuid/);
    assert.throws(() => rebuildText({ ...NONE, processUsers: { first: 0, last: 5 } }, []), /uid/);
  });
});

describe("the text for one VM", () => {
  test("adds one element to each set, and to `egress` only with an egress interface", () => {
    assert.equal(changeText([], elementsOf(network, undefined)), ADDED);
    assert.equal(
      changeText([], elementsOf(network, "eth0")),
      `${ADDED}add element inet fleetingd egress { "fltapac107806" . "eth0" }\n`,
    );
  });

  test("deletes exactly what was added", () => {
    const elements = elementsOf(network, "eth0");
    assert.equal(
      changeText(elements, []),
      changeText([], elements).replaceAll("add element", "delete element"),
    );
  });

  test("replaces only what differs", () => {
    const text = changeText(elementsOf(network, "eth0"), elementsOf(network, "eth1"));
    assert.deepEqual(text.match(/^delete.*$/gm), [
      'delete element inet fleetingd egress { "fltapac107806" . "eth0" }',
    ]);
    assert.ok(text.includes('add element inet fleetingd egress { "fltapac107806" . "eth1" }'));
  });

  test("refuses an interface name that nft would read as something else", () => {
    for (const name of [
      "",
      "eth*",
      'a" }; flush ruleset; #',
      "a b",
      "a\nb",
      "../x",
      "sixteencharacter",
      "-a",
    ]) {
      assert.throws(() => elementsOf(network, name), { code: "INVALID_CONFIG" }, name);
    }
    for (const name of ["eth0", "enp0s31f6", "br-lan", "eth0.100", "wg_1", "bond0@x"])
      elementsOf(network, name);
  });

  test("refuses a record that was tampered with", () => {
    for (const change of [
      { tapName: "eth0" },
      { tapName: 'fltap" }' },
      { macAddress: "02:fc:ac:10:78:06 }" },
      { address: "172.16.120.6/8" },
      { gateway: "172.16.120.5\n" },
    ]) {
      assert.throws(() => elementsOf({ ...network, ...change }, undefined), {
        code: "INVALID_ARGUMENT",
      });
    }
  });
});

describe("the static rules", () => {
  test("drop nothing but what comes from or goes to our TAPs", () => {
    const text = rebuildText(NONE, []);
    const baseChains = [...text.matchAll(/chain (\w+) \{\n\t\ttype ([^;]+); policy (\w+);\n([^}]*)\}/g)];
    assert.ok(baseChains.length >= 5);
    for (const [, name, , policy, rules = ""] of baseChains) {
      assert.equal(policy, "accept", name);
      for (const rule of rules.trim().split("\n")) {
        assert.match(rule.trim(), new RegExp(`^[io]ifname "${TAP_PREFIX}\\*" `), `${name}: ${rule}`);
      }
    }
  });

  test("name no table but ours, and never flush", () => {
    const text = rebuildText(NONE, elementsOf(network, "eth0")) + removalText();
    assert.ok(!text.includes("flush"));
    for (const [, name] of text.matchAll(/(?:table|element) (?:inet|arp) (\S+)/g))
      assert.equal(name, "fleetingd");
  });

  test("let resolvers through, on the host too, and deny the VMs' own prefixes", () => {
    const text = rebuildText(
      {
        ...NONE,
        subnets: ["172.16.120.0/24"],
        dnsServers: ["192.0.2.53"],
        hostServices: [{ address: "192.0.2.1", protocol: "tcp", port: 5000 }],
      },
      [],
    );
    assert.match(text, /set dns_servers \{\n.*elements = \{ 192\.0\.2\.53 \}/);
    assert.match(
      text,
      /set host_services \{\n.*192\.0\.2\.1 \. tcp \. 5000, 192\.0\.2\.53 \. tcp \. 53, 192\.0\.2\.53 \. udp \. 53/,
    );
    assert.match(text, /set denied_destinations \{\n.*169\.254\.0\.0\/16.*172\.16\.120\.0\/24/);
  });

  test("are marked by what they depend on", () => {
    assert.equal(rulesMarker(NONE), rulesMarker({ ...NONE }));
    assert.notEqual(rulesMarker(NONE), rulesMarker({ ...NONE, dnsServers: ["192.0.2.53"] }));
    assert.ok(rebuildText(NONE, []).includes(`chain ${rulesMarker(NONE)} {`));
  });

  test("either refuse what comes from the configuration or hold nothing but addresses of it", () => {
    const odd = fc.oneof(
      fc.string(),
      fc.constantFrom("1.2.3.4", "1.2.3.4 }", "1.0.0.0/8", "::1", "010.1.1.1"),
    );
    const oddPort = fc.oneof(fc.integer(), fc.constantFrom(1, 65_535));
    fc.assert(
      fc.property(odd, odd, odd, oddPort, (subnet, server, address, port) => {
        try {
          const text = rebuildText(
            {
              ...NONE,
              subnets: [subnet],
              dnsServers: [server],
              hostServices: [{ address, protocol: "udp", port }],
            },
            [],
          );
          const lists = [...text.matchAll(/elements = \{(.*)\}/g)].map(([, list]) => list ?? "");
          // The last three lead to the policy's chains.
          assert.equal(lists.length, 7);
          for (const list of lists.splice(4)) assert.match(list, /^ \d+ : goto (?:from|to|out)__any $/);
          for (const list of lists)
            assert.match(list, /^[\da-f:./, ]*(?:(?:\. (?:udp|tcp) \. )?[\da-f:./, ]*)*$/);
        } catch (error) {
          if (!(error instanceof FleetingdError)) throw error;
          assert.equal(error.code, "INVALID_ARGUMENT");
        }
      }),
    );
  });
});
