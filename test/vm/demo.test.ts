/** `fleetingd demo` as a new user runs it: what it shows, and that the host is as before, also when it is interrupted. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { after, before, describe, test } from "node:test";
import { execa } from "execa";
import { exists, listDirectory } from "../../src/host/files.ts";
import { waitFor } from "../../src/host/wait.ts";
import { FLEETINGD, IMAGES } from "../helpers/daemon.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { ip, openNeighbour, type Place } from "../helpers/netns.ts";
import { failOnLeaks } from "../helpers/suite.ts";

const TIMEOUT_MS = 20 * 60_000;
/** A host that forwards for others already, and has rules of its own. */
const HOST_RULES = `
table inet mine {
	chain forward {
		type filter hook forward priority 0; policy accept;
		ip daddr 198.51.100.7 counter drop
	}
}
`;

failOnLeaks();

describe("the demo", { skip: needsNamespace() }, () => {
  let outside: Place;
  let hostBefore: string;

  before(async () => {
    outside = await openNeighbour("outside", "egress0", ["203.0.113.2", "203.0.113.1"]);
    await ip("route", "add", "default", "via", "203.0.113.1");
    await execa("nft", ["-f", "-"], { input: HOST_RULES });
    hostBefore = await hostState();
  });
  after(async () => {
    await execa("nft", ["delete", "table", "inet", "mine"]);
    await outside.close();
  });

  const demo = () =>
    execa(FLEETINGD, ["demo", "--directory", relative(process.cwd(), IMAGES)], {
      all: true,
      reject: false,
      timeout: TIMEOUT_MS,
    });

  test("runs a job in each of two fresh VMs and says how long each part took", async () => {
    const { exitCode, all } = await demo();
    assert.equal(exitCode, 0, all);
    assert.equal(all.match(/kernel +Linux/g)?.length, 2, all);
    assert.equal(all.match(/user +ubuntu, with sudo root/g)?.length, 2);
    assert.equal(all.match(/outside +sees 203\.0\.113\.2/g)?.length, 2);
    assert.equal(new Set(all.match(/address +172\.16\.120\.\d+/g)).size, 2);
    const [, table = ""] = all.split("Timings");
    for (const part of [
      "image",
      "prebuild",
      "snapshot",
      "clone",
      "start to SSH",
      "claim",
      "job in",
      "delete",
    ]) {
      assert.match(table, new RegExp(`^ +${part}.* (ms|s|already there|boots)`, "m"), table);
    }
    assert.equal(await hostState(), hostBefore);
    assert.ok(!(await exists(join(IMAGES, "run"))));
    assert.deepEqual(await listDirectory(join(IMAGES, "clones")), []);
  });

  test("leaves the host as it was when it is interrupted", async () => {
    const running = demo();
    // They are made while the snapshot is.
    const vms = async (): Promise<number> =>
      Number((await execa("pgrep", ["--full", "--count", "guest=fl-"], { reject: false })).stdout);
    await waitFor(async () => ((await vms()) === 2 ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 100,
      what: "two VMs",
    });
    running.kill("SIGINT");
    const { exitCode, all } = await running;
    assert.equal(exitCode, 130, all);
    assert.match(all, /interrupted: the demo's VMs and networks are gone, images are kept/);
    assert.equal(await hostState(), hostBefore);
    assert.ok(!(await exists(join(IMAGES, "run"))));
    assert.deepEqual(await listDirectory(join(IMAGES, "clones")), []);
  });
});

/** All that the demo promises not to change. */
async function hostState(): Promise<string> {
  const parts = await Promise.all([
    execa("nft", ["-a", "list", "ruleset"]),
    execa("ip", ["-d", "link", "show"]),
    execa("ip", ["-4", "route", "show", "table", "all"]),
    execa("ip", ["rule", "show"]),
  ]);
  const forwarding = await readFile("/proc/sys/net/ipv4/ip_forward", "utf8");
  return [...parts.map(({ stdout }) => stdout), forwarding].join("\n");
}
