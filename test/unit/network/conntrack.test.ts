import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { Netmask } from "netmask";
import { coveringPrefixes } from "../../../src/network/conntrack.ts";
import { parseVmSubnet, slotNetwork } from "../../../src/network/slots.ts";

const subnet = parseVmSubnet("10.64.0.0/16");
const address = (slot: number): string => slotNetwork(subnet, slot).address;
const slots = fc.uniqueArray(fc.nat({ max: 500 }), { maxLength: 40 });

describe("the prefixes of VMs that have gone", () => {
  test("are one if nobody stays, and few if somebody does", () => {
    const gone = Array.from({ length: 4000 }, (_, slot) => address(slot)).filter((_, slot) => slot !== 1234);
    assert.deepEqual(coveringPrefixes(gone, [], [subnet.cidr]), [subnet.cidr]);
    assert.ok(coveringPrefixes(gone, [address(1234)], [subnet.cidr]).length <= 16);
  });

  test("leave alone what is outside the subnets", () => {
    assert.deepEqual(coveringPrefixes(["192.0.2.6"], [], [subnet.cidr]), ["192.0.2.6"]);
  });

  test("hold each of them, and none that stays", () => {
    fc.assert(
      fc.property(slots, slots, (gone, live) => {
        const staying = live.filter((slot) => !gone.includes(slot)).map(address);
        const prefixes = coveringPrefixes(gone.map(address), staying, [subnet.cidr]);
        const covered = (one: string): boolean =>
          prefixes.some((prefix) => new Netmask(prefix).contains(one));
        assert.ok(gone.map(address).every(covered));
        assert.ok(!staying.some(covered));
      }),
    );
  });
});
