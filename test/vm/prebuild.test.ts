/** Prebuilds with real VMs: commands of any shape, commands that fail, a new image beside the old one. */
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { State } from "../../src/gen/fleeting.ts";
import { listDirectory, removeTree } from "../../src/host/files.ts";
import { waitFor } from "../../src/host/wait.ts";
import { IMAGES, logIn, poolToml, startTestDaemon, type TestDaemon } from "../helpers/daemon.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { failOnLeaks } from "../helpers/suite.ts";

/** What people write there: the example of the original's README, and everything that YAML or a shell could trip over. */
const AWKWARD_COMMANDS = [
  "mkdir -p /etc/docker",
  String.raw`"echo \"{ \\\"features\\\": { \\\"buildkit\\\": true }, \\\"features\\\": { \\\"containerd-snapshotter\\\": true } }\" | tee -a /etc/docker/daemon.json"`,
  "echo 'it''s: \"quoted\" # no comment' > /etc/awkward",
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a shell's, not ours
  "echo '{{ not a template }} ${HOME} %d — ünïcödé ✓' >> /etc/awkward",
  "cat >> /etc/awkward <<'END'\nline: one\n  - two\nEND",
  'su - ubuntu -c "whoami" >> /etc/awkward',
  "cd /tmp",
  "pwd >> /etc/awkward",
  "cat /etc/awkward /etc/docker/daemon.json",
];
const AWKWARD_RESULT = `its: "quoted" # no comment
{{ not a template }} \${HOME} %d — ünïcödé ✓
line: one
  - two
ubuntu
/tmp
{ "features": { "buildkit": true }, "features": { "containerd-snapshotter": true } }
`;

failOnLeaks();

const BOOT_TIMEOUT_MS = 20 * 60_000;
const CACHE_PORT = 3142;

describe("a prebuild", { skip: needsNamespace() }, () => {
  let daemon: TestDaemon;
  const made: string[] = [];
  let goldenBefore: string[];
  /** Of the pool whose commands fail: its image is tried while a clone of the other's boots. */
  let failure: Promise<unknown>;
  const asked: string[] = [];
  const cache = createServer((request, response) => {
    asked.push(request.url ?? "");
    response.writeHead(404).end();
  });

  before(async () => {
    const awkward = poolToml("awkward", {
      vm_prebuild_cloudinit_extra_cmds: AWKWARD_COMMANDS,
      boot_profile: "compatible",
    });
    const failing = poolToml("failing", {
      vm_prebuild_cloudinit_extra_cmds: [
        "echo fine",
        "echo 'the reason' >&2; false",
        "echo never > /etc/never",
      ],
    });
    await new Promise<void>((listening) => cache.listen(CACHE_PORT, "127.0.0.1", listening));
    const services = `[services]\npackage_cache = "127.0.0.1:${CACHE_PORT}"\nregistry_mirror = "127.0.0.1:5000"\n`;
    daemon = await startTestDaemon({ pools: services + awkward + failing });
    goldenBefore = await listDirectory(join(IMAGES, "golden"));
  });

  after(async () => {
    await daemon.stop();
    await new Promise((closed) => cache.close(closed));
    for (const name of made) await removeTree(join(IMAGES, "golden", name));
  });

  test("runs commands of any shape, as written", async () => {
    const name = await daemon.prebuild("awkward");
    made.push(name);
    const output = await readFile(join(IMAGES, "golden", name, "report", "commands", "0009.out"), "utf8");
    assert.equal(output, AWKWARD_RESULT);
  });

  test("keeps what cloud-init said", async () => {
    const report = await readdir(join(IMAGES, "golden", made[0] ?? "", "report", "cloud-init"));
    assert.ok(report.includes("result.json") && report.includes("cloud-init.log"), report.join(" "));
  });

  test("is not repeated while nothing changed", async () => {
    assert.equal(await daemon.prebuild("awkward"), made[0]);
    failure = daemon.prebuild("failing").catch((error: unknown) => error);
  });

  test("makes clones that run cloud-init themselves where that is asked for, and answer for it at once", async () => {
    const plugin = await daemon.attach({ pool: "awkward" });
    assert.equal(await plugin.increase(1), 1);
    const id = await waitFor(
      async () => (await plugin.update()).find(({ state }) => state === State.RUNNING)?.instance,
      { timeoutMs: BOOT_TIMEOUT_MS, intervalMs: 200, what: "a VM" },
    );
    const login = await logIn(await plugin.connectInfo(id));
    const output = async (command: string): Promise<string> => {
      const { exitCode, stdout, stderr } = await login.exec(command, BOOT_TIMEOUT_MS);
      assert.equal(exitCode, 0, `${command}: ${stdout}${stderr}`);
      return stdout.trim();
    };
    try {
      assert.equal(await output("timeout 2 cloud-init status --wait"), "status: done");
      assert.equal(await output("hostname; sudo -n id -un"), `${id}\nroot`);
      assert.match(await output("cat /run/cloud-init/result.json"), /"datasource": ".*NoCloud/);
      assert.match(await output("sudo -n /usr/bin/cloud-init --version"), /cloud-init/);
      assert.equal(await output("systemctl list-units --failed --no-legend --plain"), "");
      const count = asked.length;
      await output("sudo -n apt-get update || :");
      assert.match(asked.slice(count).join(), /^http:\/\/[^,]*InRelease/, "apt asks the host's cache");
      const mirror = await output("cat /etc/containers/registries.conf.d/50-fleetingd.conf");
      assert.match(mirror, /location = "169\.254\.0\.1:5000"/);
      assert.doesNotMatch(await output("cat /etc/docker/daemon.json"), /169\.254/, "the commands' own stays");
    } finally {
      login.close();
      await plugin.decrease([id]);
    }
  });

  test("fails with the command and what it said, and leaves nothing", async () => {
    assert.match(String(await failure), /extra command 2 of 3 failed with exit code 1.*the reason/s);
    const known = [...goldenBefore, ...made];
    const left = (await listDirectory(join(IMAGES, "golden"))).filter((name) => !known.includes(name));
    // Which one is the other pool's.
    assert.deepEqual(
      left.filter((name) => !name.startsWith(".current-")),
      [],
    );
    const status = await daemon.status();
    assert.equal(status.pools.find(({ name }) => name === "failing")?.prebuild.state, "failed");
  });
});
