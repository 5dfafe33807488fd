import assert from "node:assert/strict";
import { chmod, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Server, ServerCredentials, status as Status } from "@grpc/grpc-js";
import { build } from "esbuild";
import { execa } from "execa";
import { type GcReport, gcReportSchema, type ImageList, imageListSchema } from "../../../src/api/images.ts";
import type { DaemonStatus } from "../../../src/api/status.ts";
import { configCheckSchema, versionSchema } from "../../../src/cli/answers.ts";
import { type DaemonServer, DaemonService } from "../../../src/gen/fleetingd.ts";
import { parseExactly } from "../../helpers/command-line.ts";

const ROOT = join(import.meta.dirname, "../../..");
/** `nobody`: root may open every socket, so a test of permissions has to be somebody else. */
const NOBODY = 65534;

const STATUS: DaemonStatus = {
  version: "1.2.3",
  pid: 42,
  uptimeSeconds: 11_520,
  accelerator: "tcg",
  hypervisor: "QEMU 7.2.22",
  confinement: "without capabilities",
  connections: { entries: 950, limit: 1000, isNearlyFull: true },
  pools: [
    {
      name: "ci",
      source: "local",
      sources: [],
      image: "default",
      goldenImage: "golden-abc",
      goldenImageAgeSeconds: 90,
      prebuild: {
        state: "failed",
        step: null,
        error: "apt-get failed\n\u001b[31mE: no",
        nextInSeconds: 240,
        timings: null,
      },
      clones: {
        mode: "auto",
        snapshot: null,
        isBeingMade: false,
        problem: "its memory was written to",
        createSeconds: null,
      },
      warm: { desired: 2, actual: 1 },
      counts: { creating: 1, ready: 3, deleting: 0, failed: 0 },
      maxInstances: 10,
      draining: false,
      why: "the host is full.",
      lastError: null,
      retryInSeconds: 0,
    },
  ],
  instances: [
    {
      id: "fl-bcdfghjkmnpq",
      pool: "ci",
      group: null,
      state: "ready",
      address: "172.16.120.6",
      ageSeconds: 75,
      lastError: null,
      failures: 0,
      retryInSeconds: 0,
      goldenImage: "golden-abc",
      snapshot: null,
      resting: false,
      traffic: null,
      phases: [],
    },
  ],
};

const IMAGES: ImageList = {
  images: [
    {
      kind: "golden",
      name: "0123456789abcdef",
      directory: "/var/lib/fleetingd",
      pools: ["ci", "big"],
      base: "ubuntu-cloud-noble-release-1",
      ageSeconds: 90_000,
      bytes: 1_610_612_736,
      vms: 3,
      current: true,
    },
    {
      kind: "base",
      name: "ubuntu-cloud-noble-release-1",
      directory: "/var/lib/fleetingd",
      pools: [],
      base: null,
      ageSeconds: 90_100,
      bytes: 4096,
      vms: 0,
      current: false,
    },
  ],
};

const gcReport = (dryRun: boolean): GcReport => ({
  dryRun,
  directories: [
    {
      directory: "/a",
      skipped: null,
      removed: [{ kind: "golden", path: "/a/golden/fedc", bytes: 700 * 1024 ** 2 }],
    },
    ...(dryRun ? [] : [{ directory: "/b", skipped: "a prebuild works there", removed: [] }]),
  ],
});

let directory: string;
let server: Server;
let socket: string;
let program: string;
let statusJson = JSON.stringify(STATUS);

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "fleetingd-cli-"));
  // Others get this far, so that what they may not is the socket itself.
  await chmod(directory, 0o755);
  program = join(directory, "program.cjs");
  // As it is installed, and ten times as quick to start as its sources.
  await build({
    entryPoints: [join(import.meta.dirname, "run-cli.ts")],
    outfile: program,
    bundle: true,
    platform: "node",
    format: "cjs",
    define: { "import.meta.dirname": "__dirname" },
    external: ["cpu-features", "*.node"],
    logLevel: "error",
  });
  socket = join(directory, "daemon.sock");
  server = new Server();
  server.addService(DaemonService, standIn());
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
  await chmod(socket, 0o600);
});

after(async () => {
  server.forceShutdown();
  await rm(directory, { recursive: true });
});

/** A daemon with the pools `ci`, which works, and `broken`, which does not. */
function standIn(): Partial<DaemonServer> & Record<string, never> {
  const service: Partial<DaemonServer> = {
    status: (_, callback) => callback(null, { json: statusJson }),
    images: (_, callback) => callback(null, { json: JSON.stringify(IMAGES) }),
    collectGarbage: (call, callback) =>
      callback(null, { json: JSON.stringify(gcReport(call.request.dryRun)) }),
    prebuild: (call) => {
      const { pool, force } = call.request;
      const say = (message: string, goldenImage = "", name = pool || "ci") =>
        call.write({ pool: name, message, goldenImage });
      if (pool === "broken") {
        say("installing packages");
        call.emit("error", { code: Status.INTERNAL, details: "the command apt-get failed. Read its log." });
        return;
      }
      if (pool !== "none") {
        say("downloading 10 %");
        say("downloading 20 %");
        say(force ? "booting anew" : "booting");
        say("", "golden-1");
        if (pool === "") say("", "golden-2", "big");
      }
      call.end();
    },
  };
  return service as Partial<DaemonServer> & Record<string, never>;
}

function run(args: string[], options: { uid?: number } = {}) {
  return execa(process.execPath, [program, ...args], {
    cwd: ROOT,
    reject: false,
    timeout: 30_000,
    ...options,
  });
}

describe("status", () => {
  test("for people", async () => {
    const { stdout, stderr, exitCode } = await run(["status", "--socket", socket]);
    assert.deepEqual(stdout.split("\n"), [
      "fleetingd 1.2.3, process 42, up 3h 12m",
      "hypervisor QEMU 7.2.22 (tcg)",
      "VMs run without capabilities",
      "950 of 1000 connections are in use on this host: nearly full, and new ones may fail; raise net.netfilter.nf_conntrack_max, or lower max_connections of pools",
      "",
      "POOL  SOURCE  WARM  READY  CREATING  DELETING  FAILED  MAX  CLONES  GOLDEN IMAGE",
      "ci    local   1/2   3      1         0         0       10   boot    golden-abc (1m 30s old)",
      "ci: the last prebuild failed: apt-get failed [31mE: no (next try in 4m)",
      "ci: VMs boot, for there is no snapshot: its memory was written to",
      "",
      "INSTANCE         POOL  STATE  AGE     ADDRESS       GROUP  ERROR",
      "fl-bcdfghjkmnpq  ci    warm   1m 15s  172.16.120.6  -",
    ]);
    assert.equal(stderr, "");
    assert.equal(exitCode, 0);
  });

  test("as JSON, unchanged, and with the socket from the configuration", async () => {
    const config = join(directory, "config.toml");
    await writeFile(config, `[daemon]\nsocket = ${JSON.stringify(socket)}\n`);
    const { stdout, exitCode } = await run(["status", "--json", "--config", config]);
    assert.deepEqual(JSON.parse(stdout), STATUS);
    assert.equal(exitCode, 0);
  });

  test("an answer that is none is said to be so", async () => {
    statusJson = "[]";
    const { stderr, exitCode } = await run(["status", "--socket", socket]);
    statusJson = JSON.stringify(STATUS);
    assert.match(stderr, /answer cannot be understood/);
    assert.equal(exitCode, 1);
  });
});

describe("images", () => {
  test("for people", async () => {
    const { stdout, exitCode } = await run(["images", "--socket", socket]);
    assert.deepEqual(stdout.split("\n"), [
      "KIND    IMAGE                         CURRENT  AGE    SIZE     VMS  POOLS   MADE OF                       DIRECTORY",
      "golden  0123456789abcdef              yes      1d 1h  1.5 GiB  3    ci,big  ubuntu-cloud-noble-release-1  /var/lib/fleetingd",
      "base    ubuntu-cloud-noble-release-1  no       1d 1h  4.0 KiB  -    -       -                             /var/lib/fleetingd",
    ]);
    assert.equal(exitCode, 0);
  });

  test("as JSON, unchanged", async () => {
    const { stdout } = await run(["images", "--json", "--socket", socket]);
    assert.deepEqual(parseExactly(imageListSchema, stdout), IMAGES);
  });
});

describe("gc", () => {
  test("says what it removed, and fails with the reason where it could not look", async () => {
    const { stdout, stderr, exitCode } = await run(["gc", "--socket", socket]);
    assert.equal(stdout, "removed /a/golden/fedc (700 MiB)\n700 MiB are free.");
    assert.equal(stderr, "fleetingd: nothing is removed from /b: a prebuild works there.");
    assert.equal(exitCode, 1);
  });

  test("says what it would remove", async () => {
    const { stdout, exitCode } = await run(["gc", "--dry-run", "--socket", socket]);
    assert.equal(stdout, "would remove /a/golden/fedc (700 MiB)\n700 MiB would be free.");
    assert.equal(exitCode, 0);
  });

  test("as JSON, unchanged", async () => {
    const { stdout } = await run(["gc", "--dry-run", "--json", "--socket", socket]);
    assert.deepEqual(parseExactly(gcReportSchema, stdout), gcReport(true));
  });
});

describe("prebuild", () => {
  test("shows each step once and ends with the golden image's name on standard output", async () => {
    const { stdout, stderr, exitCode } = await run(["prebuild", "ci", "--socket", socket]);
    assert.equal(stdout, "golden-1");
    assert.equal(stderr, "ci: downloading 10 %\nci: booting\nci: the golden image is golden-1");
    assert.equal(exitCode, 0);
  });

  test("of every pool, by force", async () => {
    const { stdout, stderr } = await run(["prebuild", "--force", "--socket", socket]);
    assert.equal(stdout, "golden-1\ngolden-2");
    assert.match(stderr, /booting anew/);
  });

  test("a failure is exit code 1 with the daemon's own sentence", async () => {
    const { stdout, stderr, exitCode } = await run(["prebuild", "broken", "--socket", socket]);
    assert.equal(stdout, "");
    assert.equal(stderr, "broken: installing packages\nfleetingd: the command apt-get failed. Read its log.");
    assert.equal(exitCode, 1);
  });

  test("no pool is a failure, too", async () => {
    const { stderr, exitCode } = await run(["prebuild", "none", "--socket", socket]);
    assert.match(stderr, /no pool to make a golden image for/);
    assert.equal(exitCode, 1);
  });
});

describe("no daemon is exit code 3", () => {
  for (const command of ["status", "prebuild"]) {
    test(`${command}: there is no socket`, async () => {
      const { stdout, stderr, exitCode } = await run([command, "--socket", join(directory, "absent.sock")]);
      assert.match(
        stderr,
        /the daemon is not running: there is no socket .*absent\.sock.*systemctl start fleetingd/,
      );
      assert.equal(stdout, "");
      assert.equal(exitCode, 3);
    });
  }

  test("the socket is left over", async () => {
    const dead = join(directory, "dead.sock");
    const listener = createServer().listen(join(directory, "live.sock"));
    await new Promise((resolve) => listener.once("listening", resolve));
    await rename(join(directory, "live.sock"), dead);
    await new Promise((resolve) => listener.close(resolve));
    const { stderr, exitCode } = await run(["status", "--socket", dead]);
    assert.match(stderr, /nobody listens on .*dead\.sock.*systemctl start fleetingd/);
    assert.equal(exitCode, 3);
  });

  test("the socket is somebody else's: the message names the group, but never root's", async () => {
    const isRoot = process.getuid?.() === 0;
    if (!isRoot) await chmod(socket, 0);
    const { stderr, exitCode } = await run(["status", "--socket", socket], isRoot ? { uid: NOBODY } : {});
    if (!isRoot) await chmod(socket, 0o600);
    assert.match(
      stderr,
      isRoot
        ? /no permission to use .*daemon\.sock: it is for root only\. Make the group/
        : /no permission to use .*daemon\.sock: it is for root and members of the group \w+\. Run `sudo usermod -aG/,
    );
    assert.equal(exitCode, 3);
  });
});

describe("wrong usage is exit code 2", () => {
  for (const [args, pattern] of [
    [[], /Usage: fleetingd/],
    [["statsu"], /unknown command 'statsu'\n\(Did you mean status\?\)/],
    [["status", "--jason"], /unknown option '--jason'\n\(Did you mean --json\?\)/],
    [["prebuild", "a", "b"], /too many arguments/],
    [["status", "--socket"], /argument missing/],
    [["remove"], /missing required argument 'instance'/],
    // A timer of so long a time would not wait at all.
    [["top", "--interval", "1e9"], /It has to be a number of seconds\./],
    [["config"], /Usage: fleetingd config/],
    [
      ["status", "--config", "/nonexistent/config.toml"],
      /there is no configuration file \/nonexistent\/config\.toml/,
    ],
  ] as const) {
    test(`fleetingd ${args.join(" ")}`, async () => {
      const { stdout, stderr, exitCode } = await run([...args]);
      assert.match(stderr, pattern);
      assert.equal(stdout, "");
      assert.equal(exitCode, 2);
    });
  }
});

describe("config check", () => {
  test("the example that is installed is valid", async () => {
    const { stdout, exitCode } = await run([
      "config",
      "check",
      "--config",
      join(ROOT, "systemd/config.toml"),
    ]);
    assert.match(stdout, /The configuration is valid/);
    assert.equal(exitCode, 0);
  });

  test("every error is told, with exit code 2, for people and as JSON", async () => {
    const config = join(directory, "broken.toml");
    await writeFile(config, "[daemon]\nsockets = 1\n[pools.ci]\nvm_memory_mb = '8'\n");
    const lines = [
      `${config}:2: daemon.sockets: there is no such key; did you mean "socket"?`,
      `${config}:4: pools.ci.vm_memory_mb: expected a whole number, but this is "8", a string; write 8 without quotes`,
    ];
    const forPeople = await run(["config", "check", "--config", config]);
    assert.deepEqual(forPeople.stderr.split("\n"), ["fleetingd: the configuration is not valid:", ...lines]);
    assert.equal(forPeople.exitCode, 2);
    const asJson = await run(["config", "check", "--json", "--config", config]);
    assert.deepEqual(parseExactly(configCheckSchema, asJson.stdout), { valid: false, errors: lines });
    assert.equal(asJson.exitCode, 2);
  });

  test("a pool's places are told, and what its VMs are only where there are any", async () => {
    const config = join(directory, "places.toml");
    const source = '[sources.rack]\ntype = "incus"\nimage = "ci"\n';
    const pools =
      '[pools.a]\nsources = ["rack"]\nwarm_instances = 1\n[pools.b]\nsources = ["local", "rack"]\n';
    await writeFile(config, `${source}${pools}`);
    const { stdout } = await run(["config", "check", "--config", config]);
    assert.match(stdout, /^pool a: 1 warm of at most \d+ instances: at rack \(incus\)$/m);
    assert.match(stdout, /^pool b: .* instances: on this host, each \d+ cores.*; at rack \(incus\)$/m);
  });

  test("as JSON it has all values that hold", async () => {
    const config = join(directory, "pools.toml");
    await writeFile(config, "[pools.ci]\n");
    const { stdout } = await run(["config", "check", "--json", "--config", config]);
    parseExactly(configCheckSchema, stdout);
    const answer = JSON.parse(stdout);
    assert.equal(answer.valid, true);
    assert.deepEqual(answer.files, [config]);
    assert.equal(answer.config.pools.ci.memoryMiB, 2048);
    assert.equal(answer.config.images.default.type, "auto");
  });
});

describe("version and the rest", () => {
  test("version, also as JSON and as an option", async () => {
    assert.equal((await run(["version"])).stdout, `fleetingd 1.2.3 (Node.js ${process.version})`);
    assert.deepEqual(parseExactly(versionSchema, (await run(["version", "--json"])).stdout), {
      version: "1.2.3",
      node: process.version,
    });
    const option = await run(["--version"]);
    assert.equal(option.stdout, "fleetingd 1.2.3");
    assert.equal(option.exitCode, 0);
  });

  test("help that was asked for is on standard output and no failure", async () => {
    const { stdout, stderr, exitCode } = await run(["--help"]);
    assert.match(stdout, /Usage: fleetingd/);
    assert.equal(stderr, "");
    assert.equal(exitCode, 0);
  });

  test("a command from outside gets its options, and its exit code counts", async () => {
    const { stdout, exitCode } = await run(["--socket", "/s", "serve", "--ephemeral"]);
    assert.deepEqual(JSON.parse(stdout), {
      config: "/etc/fleetingd/config.toml",
      socket: "/s",
      ephemeral: true,
    });
    assert.equal(exitCode, 7);
  });
});
