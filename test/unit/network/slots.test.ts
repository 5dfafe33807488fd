import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { FleetingdError } from "../../../src/errors.ts";
import {
  addressOfTap,
  isTapName,
  parseVmSubnet,
  prefixesOverlap,
  slotNetwork,
  slotOfAddress,
  type VmSubnet,
} from "../../../src/network/slots.ts";

const number = (address: string): number =>
  address.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0);

/** Private prefixes of every permitted length. */
const subnets: fc.Arbitrary<VmSubnet> = fc
  .record({ length: fc.integer({ min: 8, max: 30 }), bits: fc.integer({ min: 0, max: 2 ** 24 - 1 }) })
  .map(({ length, bits }) => {
    const base = bits - (bits % 2 ** (32 - length));
    const octets = [10, Math.floor(base / 65_536), Math.floor(base / 256) % 256, base % 256];
    return parseVmSubnet(`${octets.join(".")}/${length}`);
  });

describe("parseVmSubnet", () => {
  test("takes CIDR form and the short form of a /24", () => {
    assert.deepEqual(parseVmSubnet("172.16.120.0/24"), { cidr: "172.16.120.0/24", slotCount: 64 });
    assert.deepEqual(parseVmSubnet("172.16.120."), { cidr: "172.16.120.0/24", slotCount: 64 });
    assert.deepEqual(parseVmSubnet("10.0.0.0/8"), { cidr: "10.0.0.0/8", slotCount: 4_194_304 });
    assert.deepEqual(parseVmSubnet("192.0.2.8/29"), { cidr: "192.0.2.8/29", slotCount: 2 });
  });

  for (const [text, reason] of [
    ["", /neither an IPv4 prefix/],
    ["172.16.120", /neither an IPv4 prefix/],
    ["172.16.120.0", /neither an IPv4 prefix/],
    ["172.16.120.0/", /neither an IPv4 prefix/],
    ["172.16.120./24", /neither an IPv4 prefix/],
    ["172.16.120.0/255.255.255.0", /neither an IPv4 prefix/],
    [" 172.16.120.0/24", /neither an IPv4 prefix/],
    ["172.16.120.0/24\n", /neither an IPv4 prefix/],
    ["0x0a.0.0.0/8", /neither an IPv4 prefix/],
    ["fd00::/64", /neither an IPv4 prefix/],
    ["010.0.0.0/8", /leading zero \(010\)/],
    ["10.0.0.0/08", /leading zero \(08\)/],
    ["172.16.08.", /leading zero \(08\)/],
    ["172.16.256.0/24", /256 where at most 255/],
    ["300.16.1.", /300 where at most 255/],
    ["10.0.0.0/7", /prefix length 7, but it must be from 8 to 30/],
    ["10.0.0.0/31", /prefix length 31/],
    ["10.0.0.0/99", /prefix length 99/],
    ["172.16.120.1/24", /inside a prefix; the prefix itself is 172\.16\.120\.0\/24/],
    ["127.0.0.0/8", /loopback/],
    ["127.1.2.", /loopback/],
    ["169.254.8.0/24", /link-local/],
    ["169.0.0.0/8", /link-local/],
    ["224.0.0.0/24", /multicast/],
    ["239.1.0.0/16", /multicast/],
    ["240.0.0.0/8", /reserved/],
    ["0.0.0.0/8", /this network/],
  ] as const) {
    test(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(
        () => parseVmSubnet(text),
        (error) =>
          error instanceof FleetingdError &&
          error.code === "INVALID_CONFIG" &&
          error.hint !== undefined &&
          reason.test(error.message) &&
          error.message.includes(JSON.stringify(text)),
      );
    });
  }

  test("either understands a text or refuses it with one sentence", () => {
    const octet = fc.oneof(fc.nat(300).map(String), fc.constantFrom("00", "01", "0x1", "", "-1", "1e1"));
    const odd = fc
      .tuple(octet, octet, octet, octet, fc.nat(40))
      .map(([a, b, c, d, n]) => `${a}.${b}.${c}.${d}/${n}`);
    fc.assert(
      fc.property(fc.oneof(odd, fc.string()), (text) => {
        try {
          const { cidr } = parseVmSubnet(text);
          assert.equal(cidr, text.endsWith(".") ? `${text}0/24` : text);
        } catch (error) {
          assert.ok(error instanceof FleetingdError);
          assert.equal(error.code, "INVALID_CONFIG");
        }
      }),
    );
  });
});

describe("slotNetwork", () => {
  test("gives the host the first address of the /30 and the guest the second", () => {
    assert.deepEqual(slotNetwork(parseVmSubnet("172.16.120."), 1), {
      slot: 1,
      cidr: "172.16.120.4/30",
      prefixLength: 30,
      gateway: "172.16.120.5",
      address: "172.16.120.6",
      macAddress: "02:fc:ac:10:78:06",
      tapName: "fltapac107806",
    });
  });

  test("refuses a slot that the subnet does not have", () => {
    const subnet = parseVmSubnet("172.16.120.0/29");
    for (const slot of [-1, 2, 0.5, Number.NaN]) {
      assert.throws(() => slotNetwork(subnet, slot), { code: "INVALID_ARGUMENT" });
    }
  });

  test("stays inside the prefix, and addresses lead back to the slot", () => {
    fc.assert(
      fc.property(subnets, fc.nat(), (subnet, seed) => {
        const slot = seed % subnet.slotCount;
        const network = slotNetwork(subnet, slot);
        for (const address of [network.address, network.gateway, network.cidr.slice(0, -3)]) {
          assert.ok(prefixesOverlap(subnet.cidr, `${address}/32`));
          assert.equal(slotOfAddress(subnet, address), slot);
        }
        assert.equal(number(network.address), number(network.gateway) + 1);
        assert.ok(network.tapName.length <= 15, "Linux allows 15 characters");
        assert.ok(isTapName(network.tapName));
        assert.equal(addressOfTap(network.tapName), network.address);
        const firstByte = Number.parseInt(network.macAddress.slice(0, 2), 16);
        assert.equal(firstByte & 3, 2, "locally administered and not multicast");
        assert.match(network.macAddress, /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
      }),
    );
  });

  test("never gives two slots anything in common, in one subnet or in two", () => {
    fc.assert(
      fc.property(subnets, subnets, fc.nat(), fc.nat(), (one, other, first, second) => {
        const a = slotNetwork(one, first % one.slotCount);
        const b = slotNetwork(other, second % other.slotCount);
        const same = a.cidr === b.cidr;
        for (const key of ["gateway", "address", "macAddress", "tapName"] as const) {
          assert.equal(a[key] === b[key], same, key);
        }
        assert.equal(prefixesOverlap(a.cidr, b.cidr), same);
      }),
    );
  });

  test("knows which addresses are outside", () => {
    const subnet = parseVmSubnet("172.16.120.0/24");
    assert.equal(slotOfAddress(subnet, "172.16.121.0"), undefined);
    assert.equal(slotOfAddress(subnet, "172.16.119.255"), undefined);
  });
});

test("only names that slots can have are names of TAPs", () => {
  for (const name of ["eth0", "fltap", "fltapac10780", "fltapac1078066", "fltapXC107806", "xfltapac107806"]) {
    assert.equal(isTapName(name), false, name);
    assert.equal(addressOfTap(name), undefined);
  }
});
