import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type ForeignChain, firewallAdvice } from "../../../src/network/foreign-firewalls.ts";
import { defaultInterface, overlapOf } from "../../../src/network/host-check.ts";
import { parseVmSubnet } from "../../../src/network/slots.ts";

const subnet = parseVmSubnet("172.16.120.0/24");

describe("overlapOf", () => {
  test("is silent about routes elsewhere and about default routes, whole or in halves", () => {
    const routes = [
      { dst: "default", dev: "eth0", gateway: "192.0.2.1" },
      { dst: "0.0.0.0/1", dev: "tun0" },
      { dst: "128.0.0.0/1", dev: "tun0" },
      { dst: "172.16.121.0/24", dev: "eth1" },
      { dst: "127.0.0.0/8", dev: "lo", type: "local" },
    ];
    assert.equal(overlapOf(subnet, routes), undefined);
  });

  test("names the route that is inside, around, or equal", () => {
    for (const dst of ["172.16.120.128/25", "172.16.0.0/12", "172.16.120.0/24"]) {
      assert.equal(
        overlapOf(subnet, [{ dst, dev: "docker0" }]),
        `the VM subnet 172.16.120.0/24 overlaps the host's route ${dst} on docker0`,
      );
    }
    assert.equal(
      overlapOf(subnet, [{ dst: "172.16.120.9", gateway: "192.0.2.1", dev: "eth0" }]),
      "the VM subnet 172.16.120.0/24 overlaps the host's route 172.16.120.9 via 192.0.2.1 on eth0",
    );
    assert.equal(
      overlapOf(subnet, [{ dst: "172.16.120.1/16", dev: "eth0", type: "address" }]),
      "the VM subnet 172.16.120.0/24 overlaps the host's address 172.16.120.1/16 on eth0",
    );
    assert.match(
      overlapOf(subnet, [{ dst: "172.16.0.0/16", type: "blackhole" }]) ?? "",
      /route \(blackhole\)/,
    );
  });

  test("takes no offence at our own TAPs", () => {
    assert.equal(overlapOf(subnet, [{ dst: "172.16.120.4/30", dev: "fltapac107806" }]), undefined);
    assert.notEqual(overlapOf(subnet, [{ dst: "172.16.120.4/30", dev: "fltapother" }]), undefined);
  });
});

describe("defaultInterface", () => {
  test("prefers the lowest metric and understands multipath routes", () => {
    assert.equal(defaultInterface([]), undefined);
    assert.equal(
      defaultInterface([
        { dst: "default", dev: "wlan0", metric: 600 },
        { dst: "default", dev: "eth0", metric: 100 },
      ]),
      "eth0",
    );
    assert.equal(
      defaultInterface([{ dst: "default", nexthops: [{ dev: "eth3" }, { dev: "eth4" }] }]),
      "eth3",
    );
    assert.equal(defaultInterface([{ dst: "default", type: "unreachable", dev: "lo" }]), undefined);
  });
});

describe("firewallAdvice", () => {
  const forward = (chain: Partial<ForeignChain>): ForeignChain => ({
    family: "ip",
    table: "filter",
    name: "FORWARD",
    hook: "forward",
    policy: "drop",
    ...chain,
  });

  test("has nothing to say about our own table, other hooks and open policies", () => {
    const chains = [
      forward({ policy: "accept" }),
      forward({ hook: "input", name: "INPUT" }),
      forward({ family: "inet", table: "fleetingd" }),
      forward({ family: "bridge", table: "x" }),
    ];
    assert.deepEqual(firewallAdvice(chains, subnet), []);
  });

  test("says what to do for Docker, ufw, firewalld and hand-written rules", () => {
    const [docker] = firewallAdvice([forward({}), forward({ name: "DOCKER-USER", hook: undefined })], subnet);
    assert.match(docker ?? "", /Docker.*iptables -I DOCKER-USER -i fltap\+ -j ACCEPT/);
    const [plain] = firewallAdvice([forward({})], subnet);
    assert.match(plain ?? "", /iptables -I FORWARD -o fltap\+/);
    const [ufw] = firewallAdvice(
      [forward({}), forward({ name: "ufw-user-forward", hook: undefined })],
      subnet,
    );
    assert.match(ufw ?? "", /ufw route allow from 172\.16\.120\.0\/24/);
    const firewalld = firewallAdvice(
      [forward({ family: "inet", table: "firewalld", name: "filter_FORWARD" })],
      subnet,
    );
    assert.equal(firewalld.length, 1);
    assert.match(firewalld[0] ?? "", /--zone=trusted --add-source=172\.16\.120\.0\/24/);
    const [own] = firewallAdvice([forward({ family: "inet", table: "mine", name: "fwd" })], subnet);
    assert.match(own ?? "", /`inet mine fwd`.*iifname "fltap\*" accept/);
  });
});
