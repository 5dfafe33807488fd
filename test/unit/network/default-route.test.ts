import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseDefaultRoute } from "../../../src/network/default-route.ts";

const HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
const route = (name: string, destination: string, flags: string, metric: number, mask: string): string =>
  `${name}\t${destination}\t0100000A\t${flags}\t0\t0\t${metric}\t${mask}\t0\t0\t0\n`;
const DEFAULT = "00000000";

describe("the default route's interface", () => {
  test("is that of the lowest metric", () => {
    const text =
      HEAD +
      route("wlan0", DEFAULT, "0003", 600, DEFAULT) +
      route("eth0", DEFAULT, "0003", 100, DEFAULT) +
      route("lan0", "0000000A", "0001", 0, "000000FF");
    assert.equal(parseDefaultRoute(text), "eth0");
  });

  test("is none where there is only a route to nowhere, or half of one", () => {
    assert.equal(parseDefaultRoute(HEAD), undefined);
    assert.equal(parseDefaultRoute(HEAD + route("*", DEFAULT, "0201", 0, DEFAULT)), undefined);
    assert.equal(parseDefaultRoute(HEAD + route("tun0", DEFAULT, "0001", 0, "00000080")), undefined);
  });
});
