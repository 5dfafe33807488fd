/**
 * The contract of src/hypervisor/driver.ts, asked of every driver in the same words.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline/promises";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { exists } from "../../src/host/files.ts";
import { identifyProcess, isAlive, type ProcessIdentity } from "../../src/host/process.ts";
import { run } from "../../src/host/run.ts";
import { sleep, waitFor, withTimeout } from "../../src/host/wait.ts";
import {
  CONSOLE_LOG,
  type HypervisorDriver,
  type RunningVm,
  type VmSpec,
} from "../../src/hypervisor/driver.ts";
import { cutLargeLog } from "../../src/hypervisor/output.ts";
import {
  consoleOf,
  createFixture,
  exitOf,
  type HypervisorFixture,
  makeDisk,
  makeTap,
  openToUsers,
  VM_USER,
  waitForConsole,
} from "./hypervisor-fixture.ts";
import { FAULT_FILE, putHypervisor } from "./hypervisor-programs.ts";
import { needsNamespace } from "./namespace.ts";
import { standStill } from "./stand-still.ts";
import { TINY, TINY_BYE, TINY_READY } from "./tiny-guest.ts";

const GRACE_MS = 60_000;

/** A hypervisor that the suite runs with, and what it says in its own way. */
export interface Subject {
  /** As in the suite's title. */
  title: string;
  name: HypervisorDriver["name"];
  which: "qemu" | "cloud-hypervisor" | "stand-in";
  description: RegExp;
  /** Its control socket, in a VM's directory. */
  socket: string;
  /**
   * What is behind the console: a real guest, a stand-in's few lines, or nothing, where VMs can be made and told things but
   * guests don't boot (with the reason).
   */
  guest: { kind: "real" } | { kind: "stand-in" } | { kind: "none"; reason: string };
  /** Whether its processes are under seccomp. */
  hasSeccomp: boolean;
  says: { noKernel: RegExp[]; noDisk: RegExp[]; wrongFormat: RegExp; tapInUse: RegExp; memory: RegExp };
  create(startTimeoutMs?: number): Promise<HypervisorDriver>;
  /** Called at the end, while the VMs' directories are still there. */
  finish?(root: string): Promise<void>;
}

export function describeParity(subject: Subject): void {
  const { guest } = subject;
  const boots = guest.kind !== "none";
  const needsGuest = { skip: guest.kind === "none" ? guest.reason : false };
  describe(`the contract of hypervisors: ${subject.title}`, {
    skip: needsNamespace(),
    timeout: 900_000,
  }, () => {
    let driver: HypervisorDriver;
    let fixture: HypervisorFixture;
    const path = process.env["PATH"];
    // The driver's own handles keep nobody from ending.
    let awake: NodeJS.Timeout;

    before(async () => {
      awake = setInterval(() => undefined, 60_000);
      fixture = await createFixture(`parity-${subject.which}`);
      const bin = `${fixture.root}-bin`;
      await putHypervisor(bin, subject.which);
      process.env["PATH"] = `${bin}:${path}`;
      if (subject.name === "cloud-hypervisor") await openToUsers(fixture.root, bin);
      driver = await subject.create();
    });
    after(async () => {
      clearInterval(awake);
      process.env["PATH"] = path;
      await rm(`${fixture.root}-bin`, { recursive: true });
      await subject.finish?.(fixture.root);
      await fixture.finish(driver);
    });

    async function boot(spec: VmSpec): Promise<RunningVm> {
      const vm = await driver.start(spec);
      if (boots) await waitForConsole(spec, TINY_READY);
      return vm;
    }

    /** Asserts that a start fails with all of `patterns` in its message, and that nothing is left. */
    async function assertRefused(spec: VmSpec, code: string, ...patterns: RegExp[]): Promise<void> {
      await assert.rejects(driver.start(spec), (error: Error & { code?: string }) => {
        assert.equal(error.code, code, error.message);
        for (const pattern of patterns) assert.match(error.message, pattern);
        return true;
      });
      assert.deepEqual(await driver.list(fixture.root), []);
      assert.equal(await exists(join(spec.directory, subject.socket)), false);
    }

    test("says what it is", () => {
      assert.equal(driver.name, subject.name);
      assert.match(driver.description, subject.description);
    });

    test(
      "a guest sees the machine that was asked for, and the power button ends it",
      needsGuest,
      async (t) => {
        const tapName = `tap-${subject.which.slice(0, 4)}`;
        await makeTap(t, tapName, driver.startsAsUser ? VM_USER : 0);
        const overlay = join(fixture.root, "overlay.qcow2");
        const base = await makeDisk(join(fixture.root, "base, raw"), "BASETEXT");
        await run("qemu-img", ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, overlay]);
        const seed = await makeDisk(join(fixture.root, "seed.raw"), "SEEDTEXT");
        const spec = await fixture.spec("machine", ["tiny.note=here"], {
          vcpus: 2,
          memoryMiB: 192,
          disks: [
            { path: overlay, format: "qcow2", readOnly: false, serial: "root" },
            { path: seed, format: "raw", readOnly: true, serial: "seed-1" },
          ],
          nics: [{ tapName, macAddress: "52:54:00:aa:bb:cc" }],
        });
        const vm = await boot(spec);
        const text = await waitForConsole(spec, TINY_READY);
        assert.match(text, /tiny: cpus=2 memory=1[0-9]{5}\r?\n/);
        assert.match(text, /tiny: cmdline=console=\S+ panic=5 quiet tiny.note=here/);
        assert.match(
          text,
          guest.kind === "real"
            ? /tiny: disk vda serial=root sectors=16384 ro=0 text=BASETEXT/
            : /tiny: disk vda serial=root/,
        );
        assert.match(text, /tiny: disk vdb serial=seed-1 sectors=16384 ro=1 text=SEEDTEXT/);
        assert.match(text, /tiny: nic eth0 mac=52:54:00:aa:bb:cc/);
        assert.equal(await vm.state(), "running");

        await vm.stop({ graceMs: GRACE_MS });
        assert.deepEqual(await exitOf(vm), { exitCode: 0, signal: undefined, lastOutput: "" });
        await waitForConsole(spec, TINY_BYE);
        assert.equal(await vm.state(), "stopped");
        assert.equal(await isAlive(vm.process), false);
        if (guest.kind !== "real") return;
        // What the guest wrote is in the overlay, and nowhere else.
        await run("qemu-img", [
          "convert",
          "-f",
          "qcow2",
          "-O",
          "raw",
          overlay,
          join(fixture.root, "flat.raw"),
        ]);
        const flat = await readFile(join(fixture.root, "flat.raw"));
        assert.equal(flat.toString("latin1", 512, 519), "written");
        assert.equal((await readFile(base)).indexOf("written"), -1);
        assert.equal((await readFile(seed)).indexOf("written"), -1);
      },
    );

    test("its process has no capabilities, and no way to any", async () => {
      const spec = await fixture.spec("stripped", [], { user: undefined });
      const vm = await boot(spec);
      const status = await readFile(`/proc/${vm.process.pid}/status`, "utf8");
      for (const set of ["Inh", "Prm", "Eff", "Bnd", "Amb"]) {
        assert.match(status, new RegExp(`^Cap${set}:\\t0+$`, "m"), set);
      }
      assert.match(status, /^NoNewPrivs:\t1$/m);
      // Each thread has a filter of its own, and not every one needs it.
      if (subject.hasSeccomp) assert.match(await threadStatus(vm.process.pid), /^Seccomp:\t2$/m);
      await vm.stop({ graceMs: 0 });
    });

    test(
      "a disk that the host has no room for fails in the guest, is told, and does not stop the VM",
      needsGuest,
      async () => {
        const full = join(fixture.root, "full");
        await mkdir(full);
        await run("mount", ["-t", "tmpfs", "-o", "size=1m", "full", full]);
        try {
          const path = join(full, "disk.raw");
          await run("truncate", ["-s", "8M", path]);
          // One page too much, which is why the writer gives up.
          await assert.rejects(writeFile(join(full, "rest"), Buffer.alloc(1024 ** 2 + 4096)), /ENOSPC/);
          const spec = await fixture.spec("full-disk", [], {
            disks: [{ path, format: "raw", readOnly: false, serial: "root" }],
          });
          const vm = await boot(spec);
          assert.match(await withTimeout(vm.diskFailed, GRACE_MS, "the report"), /No space left/);
          assert.equal(await vm.state(), "running");
          await vm.stop({ graceMs: 0 });
        } finally {
          await run("umount", [full]);
        }
      },
    );

    test("a virtio console is written to the same file", needsGuest, async () => {
      const spec = await fixture.spec("virtio-console", [TINY.thenPowerOff], { console: "virtio" });
      const vm = await driver.start(spec);
      await waitForConsole(spec, TINY_READY);
      assert.equal((await exitOf(vm)).exitCode, 0);
    });

    test("a guest that ignores the button is ended by force after its grace", async () => {
      const spec = await fixture.spec("ignores", [TINY.ignoreButton]);
      const vm = await boot(spec);
      await vm.stop({ graceMs: 500 });
      assert.equal(await isAlive(vm.process), false);
      assert.doesNotMatch(await consoleOf(spec), new RegExp(TINY_BYE));
    });

    test("stop can be called many times, at once and again; the most impatient one decides", async () => {
      const vm = await boot(await fixture.spec("many-stops", [TINY.ignoreButton]));
      const patient = vm.stop({ graceMs: 600_000 });
      await Promise.all([
        vm.stop({ graceMs: 0 }),
        vm.stop({ graceMs: 0 }),
        vm.stop({ graceMs: 600_000 }),
        patient,
      ]);
      await vm.stop({ graceMs: 0 });
      await vm.stop({ graceMs: 600_000 });
      assert.equal(await isAlive(vm.process), false);
    });

    test("a guest that powers off by itself ends its VM", needsGuest, async () => {
      const vm = await driver.start(await fixture.spec("by-itself", [TINY.thenPowerOff]));
      assert.deepEqual(await exitOf(vm), { exitCode: 0, signal: undefined, lastOutput: "" });
      assert.equal(await vm.state(), "stopped");
      await vm.stop({ graceMs: GRACE_MS });
    });

    test("a guest that reboots stays in its process", needsGuest, async () => {
      const spec = await fixture.spec("reboots", [TINY.thenReboot]);
      const vm = await driver.start(spec);
      await waitForConsole(spec, TINY_READY);
      // While it runs its log can be cut: what follows, of the next boot, begins at the start of the file.
      assert.ok(await cutLargeLog(join(spec.directory, CONSOLE_LOG), 0));
      assert.doesNotMatch(await waitForConsole(spec, TINY_READY), /\0/);
      assert.equal(await vm.state(), "running");
      assert.ok(await isAlive(vm.process));
      await vm.stop({ graceMs: 0 });
    });

    test("a guest's panic ends its VM, and is named", needsGuest, async () => {
      const vm = await driver.start(await fixture.spec("panics", [TINY.thenPanic]));
      assert.match((await exitOf(vm)).lastOutput, /the guest's kernel panicked/);
    });

    test("a hypervisor that is killed or hangs settles `exited`", async () => {
      const killed = await driver.start(await fixture.spec("killed", [TINY.ignoreButton]));
      process.kill(killed.process.pid, "SIGKILL");
      const exit = await exitOf(killed);
      assert.equal(exit.signal, "SIGKILL");
      assert.equal(exit.exitCode, undefined);
      assert.equal(await killed.state(), "stopped");

      const hung = await driver.start(await fixture.spec("hung", [TINY.ignoreButton]));
      await standStill(hung.process.pid);
      await hung.stop({ graceMs: 500 });
      assert.equal((await exitOf(hung)).signal, "SIGKILL");
    });

    test("three VMs at once know nothing of each other", async () => {
      const names = ["three-a", "three-b", "three-c"];
      const specs = await Promise.all(names.map((id) => fixture.spec(id, [`tiny.note=${id}`])));
      const vms = await Promise.all(specs.map((spec) => driver.start(spec)));
      assert.deepEqual((await driver.list(fixture.root)).map(({ id }) => id).sort(), names);
      for (const spec of boots ? specs : [])
        assert.match(await waitForConsole(spec, TINY_READY), new RegExp(`tiny.note=${spec.id}`));
      await vms[1]?.stop({ graceMs: boots ? GRACE_MS : 0 });
      assert.deepEqual(
        (await driver.list(fixture.root)).map(({ id }) => id).sort(),
        names.filter((id) => id !== "three-b"),
      );
      await Promise.all(vms.map((vm) => vm.stop({ graceMs: 0 })));
    });

    test("a directory with a long path and a comma in it", async () => {
      const directory = join(fixture.root, "long, ".repeat(30), "directory");
      const spec = await fixture.spec("long", [], { directory });
      const vm = await boot(spec);
      const [found] = await driver.list(join(directory, ".."));
      assert.deepEqual(found, { id: "long", directory, process: vm.process });
      await vm.stop({ graceMs: boots ? GRACE_MS : 0 });
      const left = await readdir(directory);
      assert.deepEqual(
        left.filter((name) => name.endsWith(".log") && name !== "requests.log"),
        ["console.log", "hypervisor.log"],
      );
      assert.deepEqual(
        left.filter((name) => name.endsWith(".sock")),
        [],
      );
    });

    describe("after the daemon was killed", () => {
      async function startedByAnother(spec: VmSpec): Promise<ProcessIdentity> {
        const script = fileURLToPath(new URL("./tiny-daemon.ts", import.meta.url));
        const daemon = spawn(
          process.execPath,
          ["--import", "tsx", script, subject.name, JSON.stringify(spec)],
          {
            stdio: ["ignore", "pipe", "inherit"],
          },
        );
        const exited = once(daemon, "exit");
        const [line] = await once(createInterface(daemon.stdout), "line");
        daemon.kill("SIGKILL");
        await exited;
        return JSON.parse(String(line));
      }

      test("its VM is adopted and stopped by the power button", needsGuest, async () => {
        const spec = await fixture.spec("adopted");
        const identity = await startedByAnother(spec);
        const handle = { id: spec.id, directory: spec.directory, process: identity };
        assert.deepEqual(await driver.list(fixture.root), [handle]);
        const vm = await driver.adopt(handle);
        assert.ok(vm, "the VM was not adopted");
        assert.deepEqual(vm.process, identity);
        assert.equal(await vm.state(), "running");
        await waitForConsole(spec, TINY_READY);
        await vm.stop({ graceMs: GRACE_MS });
        assert.deepEqual(await exitOf(vm), { exitCode: undefined, signal: undefined, lastOutput: "" });
        await waitForConsole(spec, TINY_BYE);
        assert.equal(await exists(join(spec.directory, subject.socket)), false);
        assert.equal(await driver.adopt(handle), undefined);
      });

      test("the end of an adopted VM is noticed, and one that hangs is ended", async () => {
        for (const signal of ["SIGKILL", "SIGSTOP"] as const) {
          const spec = await fixture.spec(`adopted-${signal.toLowerCase()}`);
          const identity = await startedByAnother(spec);
          const vm = await driver.adopt({ id: spec.id, directory: spec.directory, process: identity });
          assert.ok(vm, "the VM was not adopted");
          if (signal === "SIGKILL") process.kill(identity.pid, signal);
          else {
            await standStill(identity.pid);
            await vm.stop({ graceMs: 100 });
          }
          await exitOf(vm);
          assert.equal(await vm.state(), "stopped");
          assert.equal(await isAlive(identity), false);
        }
      });

      test("a record that is not of this process touches nothing", async () => {
        const spec = await fixture.spec("mismatch", [TINY.ignoreButton]);
        const identity = await startedByAnother(spec);
        const right = { id: spec.id, directory: spec.directory, process: identity };
        const self = await identifyProcess(process.pid);
        assert.ok(self);
        const wrong = [
          { ...right, process: { ...identity, startTicks: identity.startTicks + 1 } },
          { ...right, id: "mismatc" },
          { ...right, directory: fixture.root },
          { ...right, process: self },
        ];
        for (const handle of wrong) assert.equal(await driver.adopt(handle), undefined);
        assert.ok(await isAlive(identity));
        const vm = await driver.adopt(right);
        await vm?.stop({ graceMs: 0 });
        assert.equal(await isAlive(identity), false);
      });
    });

    describe("a start that fails leaves nothing and says why", () => {
      test("no kernel", async () => {
        const spec = await fixture.spec("no-kernel", [], { kernelPath: "/nowhere/second" });
        await assertRefused(
          spec,
          "HYPERVISOR_FAILED",
          /VM no-kernel/,
          ...subject.says.noKernel,
          /No such file/,
        );
      });

      test("no disk, and a disk of another format", async () => {
        const path = join(fixture.root, "absent.raw");
        const disk = { path, format: "raw", readOnly: false, serial: "root" } as const;
        const spec = await fixture.spec("no-disk", [], { disks: [disk] });
        await assertRefused(spec, "HYPERVISOR_FAILED", ...subject.says.noDisk, /No such file/);
        await makeDisk(path, "no qcow2");
        const wrong = await fixture.spec("wrong-disk", [], { disks: [{ ...disk, format: "qcow2" }] });
        await assertRefused(wrong, "HYPERVISOR_FAILED", subject.says.wrongFormat);
      });

      test("the output of an earlier start in the same directory is not repeated", async () => {
        const first = [
          { path: join(fixture.root, "first.raw"), format: "raw", readOnly: false, serial: "" },
        ] as const;
        const spec = await fixture.spec("twice", [], { disks: first });
        await assertRefused(spec, "HYPERVISOR_FAILED", /No such file/);
        await assert.rejects(
          driver.start({ ...spec, disks: [], kernelPath: "/nowhere/second" }),
          (error: Error) => {
            for (const pattern of subject.says.noKernel) assert.match(error.message, pattern);
            assert.doesNotMatch(error.message, /first/);
            return true;
          },
        );
      });

      test("a network device that is absent or in use", async (t) => {
        const nic = { tapName: "hyp-absent", macAddress: "52:54:00:aa:bb:cc" };
        const spec = await fixture.spec("no-tap", [], { nics: [nic] });
        await assertRefused(spec, "NOT_FOUND", /there is no network device hyp-absent/);
        const busy = `busy-${subject.which.slice(0, 4)}`;
        await makeTap(t, busy, driver.startsAsUser ? VM_USER : 0);
        const nics = [{ ...nic, tapName: busy }];
        const holder = await driver.start(await fixture.spec("tap-holder", [TINY.ignoreButton], { nics }));
        const second = await fixture.spec("tap-second", [], { nics });
        await assert.rejects(driver.start(second), {
          code: "HYPERVISOR_FAILED",
          message: subject.says.tapInUse,
        });
        await holder.stop({ graceMs: 0 });
      });

      test("a disk that another VM has open", async () => {
        const path = await makeDisk(join(fixture.root, "shared.raw"), "");
        const disks = [{ path, format: "raw", readOnly: false, serial: "root" }] as const;
        const holder = await driver.start(await fixture.spec("disk-holder", [TINY.ignoreButton], { disks }));
        await assert.rejects(driver.start(await fixture.spec("disk-second", [], { disks })), {
          code: "HYPERVISOR_FAILED",
          message: /lock/,
          hint: /has this disk open/,
        });
        await holder.stop({ graceMs: 0 });
      });

      test("more memory than there is", async () => {
        const spec = await fixture.spec("memory", [], { memoryMiB: 1024 * 1024 * 1024 });
        await assertRefused(spec, "HYPERVISOR_FAILED", subject.says.memory);
      });

      test("what QEMU would misread", async () => {
        const disk = { path: "/x", format: "raw", readOnly: false, serial: "" } as const;
        const nic = { tapName: "x", macAddress: "52:54:00:aa:bb:cc" };
        const wrong: Partial<VmSpec>[] = [
          { id: "a,process=b" },
          { vcpus: 0 },
          { memoryMiB: 0.5 },
          { kernelPath: "vmlinuz" },
          { disks: [{ ...disk, serial: "longer-than-twenty-characters" }] },
          { nics: [{ ...nic, tapName: "x,script=/bin/sh" }] },
          { nics: [{ ...nic, macAddress: "52:54:00:aa:bb" }] },
        ];
        const spec = await fixture.spec("wrong");
        for (const change of wrong)
          await assertRefused({ ...spec, ...change }, "INVALID_ARGUMENT", /cannot start/);
      });

      test("an abort, before and during the start", async () => {
        const spec = await fixture.spec("aborted");
        await assert.rejects(driver.start(spec, AbortSignal.abort()), { code: "CANCELLED" });
        for (const delayMs of [0, 5, 20, 40, 60, 200]) {
          const vm = await driver
            .start(spec, AbortSignal.timeout(delayMs))
            .catch((error: { code?: string; message?: string }) => {
              assert.equal(error.code, "CANCELLED", error.message);
              return undefined;
            });
          // The abort may also come too late.
          await vm?.stop({ graceMs: 0 });
          assert.deepEqual(await driver.list(fixture.root), []);
          assert.equal(await exists(join(spec.directory, subject.socket)), false);
        }
      });

      test("a directory in which a VM runs already; that one stays as it is", async () => {
        const spec = await fixture.spec("again", [TINY.ignoreButton]);
        const vm = await driver.start(spec);
        await assert.rejects(driver.start(spec), { code: "ALREADY_EXISTS" });
        assert.equal(await vm.state(), "running");
        await vm.stop({ graceMs: 0 });
      });

      test("but a socket that a killed one left is no obstacle", async () => {
        const spec = await fixture.spec("stale");
        const stale = createServer();
        const socket = join(spec.directory, subject.socket);
        await new Promise<void>((resolve) => stale.listen(join(fixture.root, "other"), resolve));
        await run("ln", [join(fixture.root, "other"), socket]);
        await new Promise((resolve) => stale.close(resolve));
        assert.ok(await exists(socket));
        const vm = await driver.start(spec);
        await vm.stop({ graceMs: 0 });
      });
    });

    test("a guest that is paused stands still, and goes on where it was", async () => {
      const spec = await fixture.spec("paused", [TINY.ignoreButton]);
      const vm = await boot(spec);
      await vm.pause();
      await vm.pause();
      assert.equal(await vm.state(), "paused");
      const spent = await cpuTicks(vm.process.pid);
      await sleep(500);
      // A tick or two go into looking after it.
      assert.ok((await cpuTicks(vm.process.pid)) - spent < 20, "a paused VM takes CPU");
      await vm.resume();
      await vm.resume();
      assert.equal(await vm.state(), "running");
      await vm.stop({ graceMs: 0 });
    });

    test("a paused guest hears the power button after all", needsGuest, async () => {
      const spec = await fixture.spec("paused-button");
      const vm = await boot(spec);
      await vm.pause();
      await vm.stop({ graceMs: GRACE_MS });
      await waitForConsole(spec, TINY_BYE);
    });

    test("the balloon takes memory from the guest and gives it back", needsGuest, async () => {
      const vm = await boot(await fixture.spec("balloon", [TINY.ignoreButton]));
      for (const balloonMiB of [48, 0]) {
        await vm.resizeBalloon(balloonMiB);
        const reached = async () => ((await vm.balloonMiB()) === balloonMiB ? true : undefined);
        await waitFor(reached, {
          timeoutMs: GRACE_MS,
          intervalMs: 50,
          what: `a balloon of ${balloonMiB} MiB`,
        });
      }
      await vm.stop({ graceMs: 0 });
    });

    test("three go on at once from one snapshot, which stays as it is", needsGuest, async () => {
      const { snapshots } = driver;
      assert.ok(snapshots, "this driver restores nothing");
      assert.match(snapshots.platform, new RegExp(`^${subject.name} \\d`));
      const memoryPath = join(fixture.root, "memory, of a template");
      const stateDirectory = join(fixture.root, "state");
      await mkdir(stateDirectory);
      const template = await boot(await fixture.spec("template", [], { memoryPath, hasChannel: true }));
      await template.saveState(stateDirectory, { timeoutMs: GRACE_MS });
      assert.equal(await template.state(), "paused");
      await template.stop({ graceMs: 0 });
      const saved = await hashOf(memoryPath);

      const snapshot = { memoryPath, stateDirectory };
      const ids = ["clone-a", "clone-b", "clone-c"];
      const specs = await Promise.all(ids.map((id) => fixture.spec(id, [], { hasChannel: true })));
      const clones = await Promise.all(specs.map((spec) => snapshots.restore(spec, snapshot)));
      for (const clone of clones) {
        assert.equal(await clone.state(), "running");
        (await clone.openChannel({ timeoutMs: GRACE_MS })).destroy();
        await clone.removeChannel({ timeoutMs: GRACE_MS });
        await clone.removeChannel({ timeoutMs: GRACE_MS });
        await assert.rejects(clone.openChannel({ timeoutMs: 1_000 }));
      }
      await Promise.all(clones.map((clone) => clone.stop({ graceMs: GRACE_MS })));
      for (const spec of specs) {
        // It did not boot, and it heard the button.
        const text = await waitForConsole(spec, TINY_BYE);
        assert.doesNotMatch(text, new RegExp(TINY_READY));
      }
      assert.equal(await hashOf(memoryPath), saved);
    });

    test("a snapshot that is not there, or is none, restores nothing and leaves nothing", async () => {
      const stateDirectory = join(fixture.root, "no-state");
      await mkdir(stateDirectory);
      const memoryPath = await makeDisk(join(fixture.root, "no-memory"), "");
      const spec = await fixture.spec("no-snapshot", [], { hasChannel: true });
      for (const name of [undefined, "devices", "config.json"]) {
        if (name !== undefined) await writeFile(join(stateDirectory, name), "no state of any device");
        const restored = driver.snapshots?.restore(spec, { memoryPath, stateDirectory });
        await assert.rejects(restored ?? Promise.reject(new Error("it restores nothing")));
        assert.deepEqual(await driver.list(fixture.root), []);
        assert.equal(await exists(join(spec.directory, subject.socket)), false);
      }
    });

    test("a control socket that hangs, breaks or answers garbage: the start fails in time, and nothing is left", async () => {
      const impatient = await subject.create(2_000);
      for (const fault of ["hang", "garbage", "break"]) {
        const spec = await fixture.spec(`fault-${fault}`);
        await writeFile(join(spec.directory, FAULT_FILE), fault);
        await assert.rejects(impatient.start(spec, undefined), (error: Error & { code?: string }) => {
          assert.match(error.code ?? "", /^(TIMEOUT|UNAVAILABLE|HYPERVISOR_FAILED)$/, error.message);
          return true;
        });
        assert.deepEqual(await driver.list(fixture.root), [], fault);
        assert.equal(await exists(join(spec.directory, subject.socket)), false);
      }
    });
  });
}

async function hashOf(path: string): Promise<string> {
  return createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
}

/** Of all threads of a process. */
async function threadStatus(pid: number): Promise<string> {
  const threads = await readdir(`/proc/${pid}/task`);
  const texts = threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/status`, "utf8"));
  return (await Promise.all(texts)).join("");
}

/** CPU time that a process has had, in clock ticks. */
async function cpuTicks(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}
