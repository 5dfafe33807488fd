/** What a host or a configuration does not allow: one clear sentence each, an exit code, and nothing left behind. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { execa } from "execa";
import { FLEETINGD, poolToml, startTestDaemon } from "../../helpers/daemon.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { ip, openNeighbour, type Place } from "../../helpers/netns.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

failOnLeaks();

const TIMEOUT_MS = 60_000;
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

interface Refusal {
  exitCode: number | undefined;
  /** What it said, without the log's times. */
  text: string;
}

describe("fleetingd serve refuses", { skip: needsNamespace() }, () => {
  let folder: string;
  let outside: Place;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "refusals-"));
    outside = await openNeighbour("outside", "egress0", ["203.0.113.2", "203.0.113.1"]);
    await ip("route", "add", "172.20.0.0/16", "via", "203.0.113.1");
  });
  after(async () => {
    await outside.close();
    await rm(folder, { recursive: true });
  });

  /** Starts it with a pool that has these keys; `wrapper` is a command line that ours is appended to. */
  async function serve(
    keys: Readonly<Record<string, unknown>>,
    options: { wrapper?: readonly string[]; more?: string } = {},
  ): Promise<Refusal> {
    const config = join(folder, "config.toml");
    const state = join(folder, "state");
    const pool = poolToml("ci", { vm_disk_directory: join(folder, "disks"), ...keys });
    const daemon = `[daemon]\nsocket = "${join(folder, "daemon.sock")}"\nstate_directory = "${state}"\n`;
    await writeFile(config, `${daemon}${pool}${options.more ?? ""}`);
    const [program = "", ...args] = [...(options.wrapper ?? []), FLEETINGD, "--config", config, "serve"];
    const { exitCode, all } = await execa(program, args, {
      all: true,
      reject: false,
      timeout: TIMEOUT_MS,
    });
    const tables = await execa("nft", ["list", "tables"]);
    assert.equal(tables.stdout, "", "no rule is left");
    assert.deepEqual((await readdir(folder)).includes("daemon.sock"), false, "no socket is left");
    return { exitCode, text: all };
  }

  test("to run without root", async () => {
    const { exitCode, text } = await serve({}, { wrapper: ["unshare", "--user"] });
    assert.equal(exitCode, EXIT_FAILED);
    assert.match(text, /needs root. Start it by systemd .* or with sudo\./);
  });

  test("a host without /dev/net/tun", async () => {
    const script = 'mount -t tmpfs none /dev/net && exec "$@"';
    const { exitCode, text } = await serve({}, { wrapper: ["unshare", "--mount", "sh", "-c", script, "sh"] });
    assert.equal(exitCode, EXIT_FAILED);
    assert.match(text, /no usable \/dev\/net\/tun, so VMs can have no network\. .*modprobe tun/);
  });

  test("a host that lacks programs, and names them all with their packages", async () => {
    // What is no executable file is no program.
    const script =
      'for name in nft ip qemu-img; do mount --bind /dev/null "$(command -v $name)"; done; exec "$@"';
    const { exitCode, text } = await serve({}, { wrapper: ["unshare", "--mount", "sh", "-c", script, "sh"] });
    assert.equal(exitCode, EXIT_FAILED);
    for (const [program, debianPackage] of [
      ["nft", "nftables"],
      ["ip", "iproute2"],
      ["qemu-img", "qemu-utils"],
    ]) {
      assert.match(text, new RegExp(`program ${program} was not found on PATH.*${debianPackage}`));
    }
  });

  test("a subnet that overlaps a route of the host", async () => {
    const { exitCode, text } = await serve({ vm_subnet: "172.20.8.0/24" });
    assert.equal(exitCode, EXIT_USAGE);
    assert.match(
      text,
      /pool ci: the VM subnet 172\.20\.8\.0\/24 overlaps the host's route 172\.20\.0\.0\/16/,
    );
  });

  test("a subnet that overlaps another pool's without being the same", async () => {
    const more = poolToml("big", { vm_subnet: "10.10.0.0/16", vm_disk_directory: join(folder, "disks") });
    const { exitCode, text } = await serve({ vm_subnet: "10.10.4.0/24" }, { more });
    assert.equal(exitCode, EXIT_USAGE);
    assert.match(text, /vm_subnet 10\.10\.\S+ overlaps 10\.10\.\S+ of pool/);
  });

  test("a subnet that is none", async () => {
    const { exitCode, text } = await serve({ vm_subnet: "172.20.8" });
    assert.equal(exitCode, EXIT_USAGE);
    assert.match(text, /config\.toml:\d+: pools\.ci\.vm_subnet: .*172\.20\.8/);
  });

  test("an egress interface that does not exist, and says which do", async () => {
    const { exitCode, text } = await serve({ egress_interface: "eth7" });
    assert.equal(exitCode, EXIT_USAGE);
    assert.match(text, /pool ci: the egress interface eth7 does not exist .*egress0/);
  });

  test("a disk directory that can't be written", async () => {
    const { exitCode, text } = await serve({ vm_disk_directory: "/proc/fleetingd" });
    assert.equal(exitCode, EXIT_FAILED);
    assert.match(text, /pool ci: vm_disk_directory \/proc\/fleetingd is not writable/);
  });

  test("more memory than the host has", async () => {
    const { exitCode, text } = await serve({ vm_memory_mb: 4_000_000 });
    assert.equal(exitCode, EXIT_USAGE);
    assert.match(text, /vm_memory_mb = 4000000 is more than this host's \d+ MiB/);
  });

  test("what the host says against several keys is told at once", async () => {
    const { text } = await serve({
      vm_memory_mb: 4_000_000,
      egress_interface: "eth7",
      vm_subnet: "172.20.8.",
    });
    assert.match(text, /vm_memory_mb/);
    assert.match(text, /eth7/);
    assert.match(text, /overlaps/);
  });

  test("a configuration with five errors, all with their lines", async () => {
    const { exitCode, text } = await serve({
      vm_memory: 512,
      vm_num_cpu_cores: 0,
      boot_timeout: "soon",
      vm_enable_virtio_console: "yes",
      dns_servers: ["nine.nine.nine.nine"],
    });
    assert.equal(exitCode, EXIT_USAGE);
    assert.equal(text.match(/config\.toml:\d+: pools\.ci\./g)?.length, 5, text);
  });

  test("a socket that another daemon has", async () => {
    const first = await startTestDaemon({
      pools: poolToml("ci", { vm_disk_directory: join(folder, "disks") }),
    });
    const before = (await execa("nft", ["list", "ruleset"])).stdout;
    const second = await execa(FLEETINGD, ["--config", join(first.directory, "config.toml"), "serve"], {
      all: true,
      reject: false,
      timeout: TIMEOUT_MS,
    });
    assert.equal(second.exitCode, EXIT_FAILED);
    assert.match(second.all, /daemon\.sock/);
    assert.equal(
      (await execa("nft", ["list", "ruleset"])).stdout,
      before,
      "the first one's rules are as before",
    );
    assert.equal((await first.status()).pid, first.process.pid, "and it still answers");
    assert.ok(await first.stop());
  });
});
