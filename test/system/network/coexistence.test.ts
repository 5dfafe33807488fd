/** Other people's firewalls beside ours: what the daemon advises is done to the letter, and theirs is as it was. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { run } from "../../../src/host/run.ts";
import { createFabric, type Fabric } from "../../../src/network/fabric.ts";
import { detectForeignFirewalls } from "../../../src/network/foreign-firewalls.ts";
import { parseVmSubnet, slotNetwork } from "../../../src/network/slots.ts";
import { iptables } from "../../helpers/debian-programs.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { expectingAnswers, openGuest, openHost, openNeighbour, type Place } from "../../helpers/netns.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

const [HOST, OUTSIDE] = ["203.0.113.1", "203.0.113.2"] as const;
const WEB = 8080;
const SSH = 2222;
const subnet = parseVmSubnet("172.16.120.");
const [alice, bob] = [slotNetwork(subnet, 0), slotNetwork(subnet, 1)];
const egressInterface = "egress0";

/** What Docker writes when it starts, as `iptables-restore` reads it. */
const DOCKER = `
*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 5000 -j DNAT --to-destination 172.17.0.2:5000
COMMIT
*filter
:INPUT ACCEPT [12:1000]
:FORWARD DROP [3:180]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -m comment --comment "out of containers" -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 5000 -j ACCEPT
-A DOCKER-USER -s 192.0.2.9/32 -m limit --limit 5/min -j LOG
-A DOCKER-USER -j RETURN
COMMIT
`;
const HAND_WRITTEN = `table inet mine {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established counter packets 7 bytes 700 accept
	}
}
`;

failOnLeaks();

describe("beside other firewalls", { skip: needsNamespace() }, () => {
  let fabric: Fabric;
  let host: Place;
  let outside: Place;
  let guest: Place;

  before(async () => {
    host = await openHost();
    outside = await openNeighbour("outside", egressInterface, [HOST, OUTSIDE]);
    await outside.listen("tcp", { address: "0.0.0.0", port: WEB });
    fabric = createFabric({ subnets: [subnet] });
    await fabric.open();
    await fabric.attach({ network: alice, egressInterface });
    guest = await openGuest("alice", alice);
    await guest.listen("tcp", { address: "0.0.0.0", port: SSH });
  });

  /** Everybody's tables but ours. */
  const removeTheirs = async (): Promise<void> => {
    for (const table of ["ip nat", "ip filter", "inet mine"]) {
      await run("nft", ["-f", "-"], { input: `add table ${table}\ndelete table ${table}\n` });
    }
  };
  afterEach(removeTheirs);

  after(async () => {
    await fabric.close();
    for (const place of [guest, outside, host]) await place.close();
  });

  const reaches = async (): Promise<boolean> =>
    (await guest.tcp({ address: OUTSIDE, port: WEB })) !== undefined;
  const isReached = async (): Promise<boolean> =>
    (await host.tcp({ address: alice.address, port: SSH })) !== undefined;
  /** The commands that a sentence shows. */
  const shown = (advice: readonly string[]): string[] =>
    [...advice.join(" ").matchAll(/`([^`]+)`/g)].map(([, text = ""]) => text);
  const theirs = (): Promise<string> =>
    iptables("iptables-save", ["-c"]).then((text) => text.replace(/^#.*\n?/gm, ""));

  test("without any of them there is nothing to say", async () => {
    assert.deepEqual(await detectForeignFirewalls(subnet), []);
    assert.equal(await expectingAnswers(reaches), true);
  });

  test("Docker's rules keep VMs in until its own chain lets them out, and stay as they are", async () => {
    await iptables("iptables-restore", [], DOCKER);
    assert.equal(await reaches(), false);
    assert.equal(await expectingAnswers(isReached), true, "the host's own way in");
    const advice = await detectForeignFirewalls(subnet);
    assert.match(advice.join(), /^Docker has set the policy/);
    const commands = shown(advice);
    assert.equal(commands.length, 2);
    for (const command of commands) {
      const [program = "", ...args] = command.split(" ");
      await iptables(program, args);
    }
    assert.deepEqual(await detectForeignFirewalls(subnet), [], "what was done needs no advice");
    assert.equal(await expectingAnswers(reaches), true);
    assert.equal(await expectingAnswers(isReached), true);
    // No traffic from here on: their counters are theirs, too.
    const before = await theirs();
    const ruleset = (await run("nft", ["-a", "list", "table", "ip", "filter"])).stdout;
    await fabric.attach({ network: bob, egressInterface });
    await fabric.detach(bob);
    const another = createFabric({ subnets: [subnet], dnsServers: ["192.0.2.53"] });
    await another.open();
    await another.release();
    await fabric.open();
    assert.equal(await theirs(), before);
    assert.equal((await run("nft", ["-a", "list", "table", "ip", "filter"])).stdout, ruleset);
  });

  test("Docker may write its rules again, or somebody flush them", async () => {
    await iptables("iptables-restore", [], DOCKER);
    await iptables("iptables", ["-P", "FORWARD", "ACCEPT"]);
    for (const again of [
      () => iptables("iptables-restore", [], DOCKER.replace("FORWARD DROP", "FORWARD ACCEPT")),
      () => iptables("iptables", ["-F"]),
    ]) {
      await again();
      assert.equal(await expectingAnswers(reaches), true);
      assert.equal(await expectingAnswers(isReached), true);
    }
  });

  test("a forward chain of one's own that drops, after what is advised", async () => {
    await run("nft", ["-f", "-"], { input: HAND_WRITTEN });
    assert.equal(await reaches(), false);
    const advice = await detectForeignFirewalls(subnet);
    assert.match(advice.join(), /`inet mine forward` drops forwarded traffic/);
    const [, ...rules] = shown(advice);
    assert.equal(rules.length, 2);
    const input = rules.map((rule) => `add rule inet mine forward ${rule}\n`).join("");
    await run("nft", ["-f", "-"], { input });
    assert.deepEqual(await detectForeignFirewalls(subnet), []);
    assert.equal(await expectingAnswers(reaches), true);
    assert.equal(await expectingAnswers(isReached), true);
  });
});
