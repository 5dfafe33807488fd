/** What the documentation shows of commands is what they print for such a daemon. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import type { LoggedEvent } from "../../../src/api/events.ts";
import type { ImageStatus } from "../../../src/api/images.ts";
import type { DaemonStatus, InstanceStatus } from "../../../src/api/status.ts";
import { timelineOf } from "../../../src/api/timeline.ts";
import { configCheck } from "../../../src/cli/config-check.ts";
import { renderTimeline } from "../../../src/cli/explain.ts";
import { renderImages } from "../../../src/cli/images.ts";
import { renderStatus } from "../../../src/cli/status.ts";
import { renderWhy } from "../../../src/cli/why.ts";
import { whyTooFew } from "../../../src/daemon/why.ts";
import { madeUpDaemon } from "../../helpers/page-facts.ts";

const DOCS = join(import.meta.dirname, "../../../docs");
const USERS = "without capabilities, as users of their own (1900000000-1900065535)";
const CONNECTIONS = { entries: 38, limit: 262_144, isNearlyFull: false };

interface Example {
  daemon: Pick<DaemonStatus, "pid" | "uptimeSeconds" | "hypervisor" | "accelerator" | "confinement">;
  goldenImage: string;
  goldenImageAgeSeconds: number;
  instances: readonly (Pick<InstanceStatus, "id" | "ageSeconds" | "address"> & { group?: string })[];
}

/** A pool `ci` that keeps two VMs warm and has at most eight. */
function statusOf({ daemon, instances, ...image }: Example): DaemonStatus {
  const { status } = madeUpDaemon(instances.length);
  const all = instances.map((one, index) => {
    const made = status.instances[index] ?? assert.fail("too few");
    return { ...made, state: "ready" as const, group: null, ...one };
  });
  const [pool = assert.fail("no pool")] = status.pools;
  const numbers = {
    warm: { desired: 2, actual: 2 },
    counts: { creating: 0, ready: all.length, deleting: 0, failed: 0 },
    maxInstances: 8,
  };
  return {
    ...status,
    ...daemon,
    connections: CONNECTIONS,
    pools: [{ ...pool, ...image, ...numbers }],
    instances: all,
  };
}

const EXAMPLES: Readonly<Record<string, Example>> = {
  "tutorial.md": {
    daemon: {
      ...{ pid: 812, uptimeSeconds: 280, accelerator: "kvm", hypervisor: "QEMU 7.2.22 with KVM, pc-q35-7.2" },
      confinement: `${USERS}, in cgroups of their own`,
    },
    ...{ goldenImage: "d432840ccfeec475", goldenImageAgeSeconds: 109 },
    instances: [
      { id: "fl-p3g3mg6swb75", ageSeconds: 82, address: "172.16.120.6" },
      { id: "fl-gjsm9rqzw4hq", ageSeconds: 81, address: "172.16.120.10" },
    ],
  },
  "cli.md": {
    daemon: {
      ...{
        pid: 42,
        uptimeSeconds: 11,
        accelerator: "tcg",
        hypervisor: "QEMU 7.2.0 emulating (TCG), pc-q35-7.2",
      },
      confinement: `${USERS}, without cgroups of their own`,
    },
    ...{ goldenImage: "90b86f2799084708", goldenImageAgeSeconds: 9 },
    instances: [
      { id: "fl-m3f9pvn6jhjm", ageSeconds: 10, address: "172.16.0.6", group: "ci/team-a" },
      { id: "fl-fn4nmqbn92rb", ageSeconds: 10, address: "172.16.0.10" },
      { id: "fl-p96z6swjbt8w", ageSeconds: 4, address: "172.16.0.14" },
    ],
  },
};

const BASE: ImageStatus = {
  ...{ kind: "base", name: "debian-packages-bookworm-67ddd44748d6", directory: "/var/lib/fleetingd" },
  ...{ pools: ["ci"], base: null, ageSeconds: 18_300, bytes: 430 * 1024 ** 2, vms: 0, current: true },
};
const GOLDEN: ImageStatus = {
  ...{ ...BASE, kind: "golden", name: "d432840ccfeec475", base: BASE.name },
  ...{ ageSeconds: 18_125, bytes: 512 * 1024 ** 2, vms: 4 },
};

function why(): string {
  const [pool = assert.fail("no pool")] = madeUpDaemon(0).status.pools;
  const numbers = {
    warm: { desired: 2, actual: 1 },
    counts: { creating: 1, ready: 1, deleting: 0, failed: 0 },
  };
  const facts = { ...pool, ...numbers, shortage: undefined, making: ["boot"] };
  return renderWhy({ ...facts, why: whyTooFew(facts) });
}

/** A day's evening, as the page has it. */
function explain(): string[] {
  const at = (seconds: number): string =>
    new Date(new Date().setHours(17, 18, 0, seconds * 1_000)).toISOString();
  const about = { pool: "ci", instance: "fl-m3f9pvn6jhjm" };
  const group = "ci/team-a";
  const phases = Object.entries({ image: 1.1, clone: 2, boot: 2.1, ready: 2.3 });
  const events: LoggedEvent[] = [
    { kind: "creating", time: at(1.1), ...about },
    ...phases.map(([phase, time]) => ({ kind: "phase" as const, time: at(time), ...about, phase })),
    { kind: "ready", time: at(2.4), ...about, seconds: 1.3, phases: [] },
    { kind: "claimed", time: at(7), ...about, group, from: "warm" },
    { kind: "connected", time: at(8), ...about, group },
    { kind: "ending", time: at(20), ...about, cause: "released" },
    { kind: "deleted", time: at(20.1), ...about, seconds: 0.1 },
  ];
  return renderTimeline(timelineOf(about.instance, events, new Date()) ?? assert.fail("nothing is known"));
}

/** @param files by their paths below /etc/fleetingd */
async function checkOf(files: Readonly<Record<string, string>>): Promise<string[]> {
  const directory = await mkdtemp(join(tmpdir(), "fleetingd-examples-"));
  const lines: string[] = [];
  try {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(directory, path)), { recursive: true });
      await writeFile(join(directory, path), text);
    }
    const say = (line: string): void => void lines.push(line.replace(directory, "/etc/fleetingd"));
    const context = { version: "", out: say, outRaw: say, err: say, errRaw: say, terminalColumns: undefined };
    await configCheck({ config: join(directory, "config.toml") }, context);
  } finally {
    await rm(directory, { recursive: true });
  }
  return lines;
}

async function tutorialsPool(): Promise<string> {
  const text = await readFile(join(DOCS, "tutorial.md"), "utf8");
  return /^```toml\n(\[pools\.ci\]\n.*?)^```$/ms.exec(text)?.[1] ?? assert.fail("no pool");
}

const SMALL_POOL = `[images.default]
type = "debian-packages"
[pools.ci]
warm_instances = 1
max_instances = 8
vm_num_cpu_cores = 1
vm_memory_mb = 512
vm_disk_size_gb = 4
`;

/** By page and command. */
const SHOWN: Readonly<Record<string, () => readonly string[] | Promise<readonly string[]>>> = {
  ...Object.fromEntries(
    Object.entries(EXAMPLES).map(([page, example]) => [
      `${page}: fleetingd status`,
      () => renderStatus(statusOf(example)),
    ]),
  ),
  "cli.md: fleetingd why": () => [why()],
  "cli.md: fleetingd explain fl-m3f9pvn6jhjm": explain,
  "cli.md: fleetingd images": () => renderImages([GOLDEN, BASE]),
  "cli.md: fleetingd config check": () => checkOf({ "config.toml": SMALL_POOL }),
  "tutorial.md: fleetingd config check": async () =>
    checkOf({ "config.toml": "", "conf.d/ci.toml": await tutorialsPool() }),
};
/** import-config.test.ts makes its file and looks at what is printed. */
const LOOKED_AT_ELSEWHERE = ["migration.md: fleetingd import-config /etc/gitlab-runner/config.toml"];

test("every command whose output is shown is looked at", async () => {
  const found: string[] = [];
  for (const page of (await readdir(DOCS)).filter((name) => name.endsWith(".md"))) {
    const text = await readFile(join(DOCS, page), "utf8");
    for (const [, command] of text.matchAll(/^\$ (fleetingd .*)$/gm)) found.push(`${page}: ${command}`);
  }
  assert.deepEqual(found.sort(), [...Object.keys(SHOWN), ...LOOKED_AT_ELSEWHERE].sort());
});

for (const [example, output] of Object.entries(SHOWN)) {
  test(example, async () => {
    const [page = "", command = ""] = example.split(": ");
    const text = await readFile(join(DOCS, page), "utf8");
    const [, shown = ""] = text.split(`\n$ ${command}\n`);
    assert.equal(shown.slice(0, shown.indexOf("```")), `${(await output()).join("\n")}\n`);
  });
}
