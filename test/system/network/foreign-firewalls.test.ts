/**
 * Docker, firewalld and ufw themselves beside ours, as Debian packages them: what the daemon advises is done to the letter,
 * by their own programs; then VMs reach the outside, nothing else, and their rules are as they were.
 */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { run } from "../../../src/host/run.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { createFabric, type Fabric } from "../../../src/network/fabric.ts";
import { detectForeignFirewalls } from "../../../src/network/foreign-firewalls.ts";
import { parseVmSubnet, slotNetwork } from "../../../src/network/slots.ts";
import { type DebianRoot, openDebianRoot } from "../../helpers/debian-programs.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { openGuest, openHost, openNeighbour, type Place } from "../../helpers/netns.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

const TIMEOUT_MS = 120_000;
const [HOST, OUTSIDE] = ["203.0.113.1", "203.0.113.2"] as const;
const FORWARDING = "/proc/sys/net/ipv4/ip_forward";
const WEB = 8080;
const SSH = 2222;
const subnet = parseVmSubnet("172.16.120.");
const [alice, bob] = [slotNetwork(subnet, 0), slotNetwork(subnet, 1)];
const egressInterface = "egress0";

failOnLeaks();

describe("beside a real", { skip: needsNamespace() }, () => {
  let debian: DebianRoot;
  let forwarding: string;
  let fabric: Fabric;
  let host: Place;
  let outside: Place;
  let guests: [Place, Place];

  before(async () => {
    forwarding = await readFile(FORWARDING, "utf8");
    host = await openHost();
    outside = await openNeighbour("outside", egressInterface, [HOST, OUTSIDE]);
    await outside.listen("tcp", { address: "0.0.0.0", port: WEB });
    fabric = createFabric({ subnets: [subnet] });
    await fabric.open();
    for (const network of [alice, bob]) await fabric.attach({ network, egressInterface });
    guests = [await openGuest("alice", alice), await openGuest("bob", bob)];
    for (const guest of guests) await guest.listen("tcp", { address: "0.0.0.0", port: SSH });
  });

  beforeEach(async () => {
    debian = await openDebianRoot();
  });

  afterEach(async () => {
    await debian.close();
    for (const table of await theirTables()) await run("nft", ["delete", "table", ...table.split(" ")]);
    const devices = (await run("ip", ["-o", "link"])).stdout;
    if (devices.includes("docker0")) await run("ip", ["link", "delete", "docker0"]);
  });

  after(async () => {
    await fabric.close();
    for (const place of [...guests, outside, host]) await place.close();
    // Of this namespace: Docker switches it on, and leaves it so.
    await writeFile(FORWARDING, forwarding);
  });

  async function theirTables(): Promise<string[]> {
    const tables = (await run("nft", ["list", "tables"])).stdout.matchAll(/^table (.*)$/gm);
    return [...tables].map(([, name = ""]) => name).filter((name) => !name.includes("fleetingd"));
  }
  /** All of their rules, without what traffic changes. */
  async function theirs(): Promise<string> {
    const tables = await theirTables();
    const listed = tables.map((table) => run("nft", ["list", "table", ...table.split(" ")]));
    return (await Promise.all(listed))
      .map(({ stdout }) => stdout.replace(/packets \d+ bytes \d+/g, "packets N bytes N"))
      .join("");
  }
  /** Whether the one reaches the outside, the host its VM, and the one the other. */
  async function ways(): Promise<{ out: boolean; in: boolean; across: boolean }> {
    const [guest] = guests;
    return {
      out: (await guest.tcp({ address: OUTSIDE, port: WEB })) !== undefined,
      in: (await host.tcp({ address: alice.address, port: SSH })) !== undefined,
      across: (await guest.tcp({ address: bob.address, port: SSH })) !== undefined,
    };
  }
  const until = (what: string, probe: () => Promise<boolean>): Promise<true> =>
    waitFor(async () => ((await probe()) ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 200,
      what,
    });
  const WORKS = { out: true, in: true, across: false };

  /** What the sentences show between backquotes is done, by the program that they name. */
  async function followAdvice(): Promise<void> {
    const advice = (await detectForeignFirewalls(subnet)).join(" ");
    const commands = [...advice.matchAll(/`([^`]+)`/g)].map(([, text = ""]) => text);
    assert.notDeepEqual(commands, [], "there is something to do");
    for (const command of commands) await debian.run(...command.split(" "));
    assert.deepEqual(await detectForeignFirewalls(subnet), [], "what was done needs no advice");
  }

  /** VMs that come and go, and our rules written anew, change nothing of theirs. */
  async function expectTheirsKept(): Promise<void> {
    const before = await theirs();
    await fabric.detach(bob);
    await fabric.attach({ network: bob, egressInterface });
    const another = createFabric({ subnets: [subnet], dnsServers: ["192.0.2.53"] });
    await another.open();
    await another.release();
    await fabric.open();
    assert.equal(await theirs(), before);
  }

  test("Docker", async () => {
    const answers = (): Promise<boolean> =>
      debian.run("docker", "version").then(
        () => true,
        () => false,
      );
    const start = async (): Promise<() => Promise<void>> => {
      const folders = ["--data-root=/tmp/docker", "--exec-root=/run/docker"];
      const end = debian.start("dockerd", "--storage-driver=vfs", ...folders);
      await until("Docker", answers);
      return end;
    };
    const end = await start();
    assert.equal((await ways()).out, false, "its policy for forwarded packets is to drop them");
    await followAdvice();
    assert.deepEqual(await ways(), WORKS);
    await expectTheirsKept();
    // It writes its own chains anew; DOCKER-USER is the administrator's.
    await end();
    await start();
    assert.deepEqual(await ways(), WORKS);
  });

  test("ufw", async () => {
    await debian.run("ufw", "--force", "enable");
    assert.equal((await ways()).out, false);
    await followAdvice();
    await expectTheirsKept();
    await debian.run("ufw", "reload");
    assert.deepEqual(await ways(), WORKS);
  });

  test("firewalld", async () => {
    await debian.run("mkdir", "--parents", "/run/dbus");
    debian.start("dbus-daemon", "--system", "--nofork");
    debian.start("firewalld", "--nofork", "--nopid");
    const state = (): Promise<string> => debian.run("firewall-cmd", "--state").catch(() => "");
    await until("firewalld", async () => (await state()).trim() === "running");
    assert.equal((await ways()).out, false);
    await followAdvice();
    assert.deepEqual(await ways(), WORKS);
    await expectTheirsKept();
    for (const reload of ["--reload", "--complete-reload"]) {
      await debian.run("firewall-cmd", reload);
      assert.deepEqual(await ways(), WORKS);
    }
  });
});
