import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { FleetingdError } from "../../../src/errors.ts";
import { formatIpv6, parseIpv6, parseIpv6Prefix } from "../../../src/network/ipv6.ts";
import { policyChangeText, policyText } from "../../../src/network/nft-policy.ts";
import { DEFAULT_POLICY, parseAllowed, parsePorts, parsePrefix } from "../../../src/network/policy.ts";

/** All that a policy's text is made of besides names and numbers of ours. */
const WORDS = /^[\w\s.:@{}"*/,;=!&-]*$/;

describe("IPv6 addresses", () => {
  test("are written as the standard says, and read back", () => {
    for (const [text, short] of [
      ["2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"],
      ["::", "::"],
      ["::1", "::1"],
      ["1::", "1::"],
      ["::ffff:192.0.2.1", "::ffff:c000:201"],
      ["fe80:0:0:1::", "fe80:0:0:1::"],
      ["1:0:2:0:3:0:4:0", "1:0:2:0:3:0:4:0"],
    ] as const) {
      assert.equal(formatIpv6(parseIpv6(text)), short);
    }
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }), (value) => {
        assert.equal(parseIpv6(formatIpv6(value)), value);
      }),
    );
  });

  test("are prefixes only without bits of a host", () => {
    assert.equal(parseIpv6Prefix("2001:DB8::/32").cidr, "2001:db8::/32");
    for (const text of ["2001:db8::1/32", "2001:db8::", "10.0.0.0/8", "::/129", "::/01", "fe80::%eth0/64"]) {
      assert.throws(() => parseIpv6Prefix(text), { code: "INVALID_CONFIG" }, text);
    }
  });
});

describe("a policy's text", () => {
  test("has each allowance before each denial, and denials without those inside others", () => {
    const text = policyText({
      ...DEFAULT_POLICY,
      deny: ["10.0.0.0/8", "10.1.0.0/16", "fc00::/7", "fd00::/8"],
      allow: [parseAllowed("10.1.2.3 tcp/443"), parseAllowed("fd00:1::/32")],
    });
    const [, out = ""] = text.split("chain out__any {");
    assert.deepEqual(
      out
        .split("\n")
        .map((line) => line.trim())
        .slice(4, 9),
      [
        "ip daddr 10.1.2.3/32 tcp dport 443 accept",
        "ip6 daddr fd00:1::/32 accept",
        "ip daddr { 10.0.0.0/8 } drop",
        "ip6 daddr { fc00::/7 } drop",
        "accept",
      ],
    );
  });

  test("empties only those counts that changed", () => {
    const text = policyChangeText(DEFAULT_POLICY, { ...DEFAULT_POLICY, upBytesPerSecond: 1_000_000 });
    assert.deepEqual(text.match(/^flush set.*$/gm), ["flush set inet fleetingd up__any"]);
  });

  test("holds nothing of what comes from outside but addresses and numbers", () => {
    const odd = fc.oneof(
      fc.string(),
      fc.ipV4(),
      fc.ipV6(),
      fc.constantFrom("10.0.0.0/8", "fd00::/8", "10.0.0.0/8 tcp/1", "1.1.1.1 } ; flush ruleset", "tcp/1-2"),
    );
    fc.assert(
      fc.property(odd, odd, odd, odd, (name, deny, allow, ports) => {
        for (const read of [
          () => policyText({ ...DEFAULT_POLICY, name }),
          () => policyText({ ...DEFAULT_POLICY, deny: [deny] }),
          () => policyText({ ...DEFAULT_POLICY, deny: [parsePrefix(deny)] }),
          () => policyText({ ...DEFAULT_POLICY, allow: [parseAllowed(allow)] }),
          () => policyText({ ...DEFAULT_POLICY, allow: [{ prefix: allow }] }),
          () => policyText({ ...DEFAULT_POLICY, hostServices: [parsePorts(ports)] }),
        ]) {
          try {
            const text = read();
            assert.match(text, WORDS);
            assert.ok(!text.includes("flush"));
          } catch (error) {
            if (!(error instanceof FleetingdError)) throw error;
            assert.ok(["INVALID_CONFIG", "INVALID_ARGUMENT"].includes(error.code), error.code);
          }
        }
      }),
    );
  });
});
