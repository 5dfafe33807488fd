/** Packets through our rules, from a namespace in a VM's place to one outside, with one VM and with thousands. */

import { silentLogger } from "../src/log.ts";
import { createEgressForwarding } from "../src/network/forwarding.ts";
import { elementsOf } from "../src/network/nft-elements.ts";
import { DEFAULT_POLICY } from "../src/network/policy.ts";
import { type SlotNetwork, slotNetwork } from "../src/network/slots.ts";
import { setForwarding } from "../src/network/sysctl.ts";
import { policyGroup } from "../src/network/tap-groups.ts";
import { ip, openNamespace, openNeighbour, type Place } from "../test/helpers/netns.ts";
import type { Measurement, Sample } from "./measurement.ts";
import { BENCH_SUBNET, openRules } from "./rules.ts";

const OUTSIDE = "203.0.113.2";
const EGRESS = "egress0";
const FLAT = 1.3;
const SECONDS = 1;
/** Sends small datagrams for a second, and prints how many. */
const FLOOD = `
  use Socket;
  socket(my $socket, AF_INET, SOCK_DGRAM, 0) or die $!;
  connect($socket, pack_sockaddr_in(9, inet_aton($ARGV[0]))) or die $!;
  my ($end, $sent) = (time + 1 + ${SECONDS}, 0);
  while (time < $end) { for (1 .. 200) { $sent++ if defined syswrite($socket, "x" x 64) } }
`;
const PINGS = 10_000;

const FEW = 1;
const MANY = 4000;

/** With few VMs and with many in turn: what else the machine does meanwhile is the same for both. */
const traffic: Measurement = {
  metrics: [FEW, MANY].flatMap((vms) => [
    { name: `net.pps.${vms}` },
    {
      name: `net.latency.${vms}.us`,
      ...(vms === MANY ? { goal: { atMost: FLAT, of: `net.latency.${FEW}.us` } } : {}),
    },
  ]),
  runs: 7,
  warmups: 1,
  async prepare() {
    const network = slotNetwork(BENCH_SUBNET, MANY - 1);
    const outside = await openNeighbour("outside", EGRESS, ["203.0.113.1", OUTSIDE]);
    const guest = await openVeth(network);
    const forwarding = createEgressForwarding(silentLogger);
    await forwarding.enable(EGRESS, false);
    await setForwarding(network.tapName, true);
    const measure = async (vms: number): Promise<Sample> => {
      const rules = await openRules(vms - 1);
      await rules.set(network.tapName, elementsOf(network, EGRESS));
      const sample = {
        [`net.pps.${vms}`]: await packetsPerSecond(guest, outside),
        [`net.latency.${vms}.us`]: await latencyMicroseconds(guest),
      };
      await rules.remove();
      return sample;
    };
    return {
      run: async () => ({ ...(await measure(FEW)), ...(await measure(MANY)) }),
      async close() {
        await ip("link", "delete", network.tapName);
        await guest.close();
        await outside.close();
      },
    };
  },
};

/** A pair of devices instead of a TAP: its host's end has a TAP's name, which is what the rules look at. */
async function openVeth({ tapName, address, gateway, macAddress }: SlotNetwork): Promise<Place> {
  const guest = await openNamespace("guest");
  await ip("link", "add", tapName, "type", "veth", "peer", "name", "guest0", "netns", "guest");
  await ip("address", "add", `${gateway}/30`, "dev", tapName);
  await ip("link", "set", tapName, "group", String(policyGroup(DEFAULT_POLICY.name)), "up");
  await guest.ip("link", "set", "guest0", "address", macAddress, "up");
  await guest.ip("address", "add", `${address}/30`, "dev", "guest0");
  await guest.ip("route", "add", "default", "via", gateway);
  return guest;
}

async function packetsPerSecond(guest: Place, outside: Place): Promise<number> {
  const before = await receivedPackets(outside);
  const begunAt = performance.now();
  await guest.run("perl", "-e", FLOOD, OUTSIDE);
  return ((await receivedPackets(outside)) - before) / ((performance.now() - begunAt) / 1000);
}

async function receivedPackets(outside: Place): Promise<number> {
  const [link] = JSON.parse(await outside.ip("-j", "-s", "link", "show", "dev", "uplink"));
  return Number(link.stats64.rx.packets);
}

/** One ping after the other, each as soon as the last one is answered. */
async function latencyMicroseconds(guest: Place): Promise<number> {
  const output = await guest.run("ping", "-f", "-n", "-q", "-c", String(PINGS), OUTSIDE);
  const time = /, time (\d+)ms/.exec(output)?.[1];
  if (time === undefined) throw new Error(`ping said nothing of its times: ${output}`);
  return (Number(time) * 1000) / PINGS;
}

export const trafficThroughRules: readonly Measurement[] = [traffic];
