/**
 * The stand-in for QEMU is worth only as much as it is like QEMU: both are asked the same questions, by the driver that
 * the daemon uses. Where the answers differ, every other test with stand-ins is in doubt.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { exists } from "../../src/host/files.ts";
import { isAlive } from "../../src/host/process.ts";
import { CONSOLE_LOG, type HypervisorDriver, type VmSpec } from "../../src/hypervisor/driver.ts";
import { createQemuDriver } from "../../src/hypervisor/qemu/driver.ts";
import { silentLogger } from "../../src/log.ts";
import {
  createFixture,
  exitOf,
  type HypervisorFixture,
  makeDisk,
  makeTap,
  waitForConsole,
} from "../helpers/hypervisor-fixture.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { createPrograms } from "../helpers/stand-in-vm.ts";
import { standStill } from "../helpers/stand-still.ts";
import { failOnLeaks } from "../helpers/suite.ts";
import { TINY, TINY_BYE, TINY_READY } from "../helpers/tiny-guest.ts";

failOnLeaks();

const GRACE_MS = 60_000;
const MAC = "52:54:00:aa:bb:cc";
const accelerator = { kind: "tcg", reason: "chosen by the test" } as const;

for (const kind of ["QEMU", "its stand-in"] as const) {
  describe(kind, { skip: needsNamespace(), timeout: 300_000 }, () => {
    let folder: string;
    let driver: HypervisorDriver;
    let fixture: HypervisorFixture;
    const prefix = kind === "QEMU" ? "real" : "fake";

    // The driver's own handles keep nobody from ending.
    let awake: NodeJS.Timeout;

    before(async () => {
      awake = setInterval(() => undefined, 60_000);
      folder = await mkdtemp(join(tmpdir(), "stand-in-"));
      fixture = await createFixture("stand-in-vm");
      const path = process.env["PATH"];
      if (kind === "its stand-in") process.env["PATH"] = (await createPrograms(folder)).path;
      driver = await createQemuDriver({ logger: silentLogger, accelerator });
      process.env["PATH"] = path;
    });
    after(async () => {
      clearInterval(awake);
      await fixture.finish(driver);
      await rm(folder, { recursive: true });
    });

    async function assertRefused(spec: VmSpec, pattern: RegExp): Promise<void> {
      await assert.rejects(driver.start(spec), { code: "HYPERVISOR_FAILED", message: pattern });
      assert.equal(await exists(join(spec.directory, "qmp.sock")), false);
    }

    test("runs, is found, taken over by another, and ends by the power button", async () => {
      const spec = await fixture.spec("button");
      const vm = await driver.start(spec);
      await waitForConsole(spec, TINY_READY);
      assert.equal(await vm.state(), "running");
      const handle = { id: spec.id, directory: spec.directory, process: vm.process };
      assert.deepEqual(await driver.list(fixture.root), [handle]);
      await vm.stop({ graceMs: GRACE_MS });
      await waitForConsole(spec, TINY_BYE);
      assert.deepEqual(await exitOf(vm), { exitCode: 0, signal: undefined, lastOutput: "" });
      assert.equal(await driver.adopt(handle), undefined);
      assert.equal(await exists(join(spec.directory, "qmp.sock")), false);
    });

    test("talks to one at a time", async () => {
      const spec = await fixture.spec("one-at-a-time", [TINY.ignoreButton]);
      const vm = await driver.start(spec);
      const handle = { id: spec.id, directory: spec.directory, process: vm.process };
      // It lives and does not answer, since the first connection holds its monitor.
      const second = await driver.adopt(handle);
      assert.ok(second !== undefined);
      await vm.stop({ graceMs: 0 });
      assert.equal(await isAlive(vm.process), false);
      // Else it would notice that at its next look, which may be half a minute from now.
      await second.stop({ graceMs: 0 });
      await exitOf(second);
    });

    test("ends at once by force, and by its guest's own power-off", async () => {
      const forced = await driver.start(await fixture.spec("forced", [TINY.ignoreButton]));
      await forced.stop({ graceMs: 0 });
      assert.equal((await exitOf(forced)).exitCode, 0);
      const byItself = await driver.start(await fixture.spec("by-itself", [TINY.thenPowerOff]));
      assert.deepEqual(await exitOf(byItself), { exitCode: 0, signal: undefined, lastOutput: "" });
    });

    test("ends by signals, also while it hangs", async () => {
      const asked = await driver.start(await fixture.spec("asked", [TINY.ignoreButton]));
      process.kill(asked.process.pid, "SIGTERM");
      assert.equal((await exitOf(asked)).exitCode, 0);
      const hung = await driver.start(await fixture.spec("hung", [TINY.ignoreButton]));
      await standStill(hung.process.pid);
      await hung.stop({ graceMs: 0 });
      assert.equal((await exitOf(hung)).signal, "SIGKILL");
    });

    test("appends to a console that is there", async () => {
      const spec = await fixture.spec("append", [TINY.thenPowerOff]);
      await writeFile(join(spec.directory, CONSOLE_LOG), "earlier\n");
      await exitOf(await driver.start(spec));
      assert.match(await waitForConsole(spec, TINY_READY), /^earlier\n/);
    });

    test("refuses what it cannot open, and what another one has", async (t) => {
      await assertRefused(
        await fixture.spec("no-kernel", [], { kernelPath: "/nowhere/vmlinuz" }),
        /\/nowhere\/vmlinuz.*No such file/s,
      );
      const path = join(fixture.root, "disk.raw");
      const disk = { path, format: "raw", readOnly: false, serial: "root" } as const;
      await assertRefused(await fixture.spec("no-disk", [], { disks: [disk] }), /disk\.raw.*No such file/s);
      await makeDisk(path, "no qcow2");
      await assertRefused(
        await fixture.spec("wrong-disk", [], { disks: [{ ...disk, format: "qcow2" }] }),
        /not in qcow2 format/,
      );
      await assertRefused(await fixture.spec("memory", [], { memoryMiB: 1024 ** 3 }), /memory/i);
      const tapName = `${prefix}-tap`;
      await makeTap(t, tapName);
      const nics = [{ tapName, macAddress: MAC }];
      const holder = await driver.start(
        await fixture.spec("holder", [TINY.ignoreButton], { nics, disks: [disk] }),
      );
      await assertRefused(await fixture.spec("second-tap", [], { nics }), /busy/);
      await assertRefused(await fixture.spec("second-disk", [], { disks: [disk] }), /lock/);
      await holder.stop({ graceMs: 0 });
    });
  });
}
