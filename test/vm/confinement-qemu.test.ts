/** What QEMU's process may do on the host, seen from outside and as its user. */
import assert from "node:assert/strict";
import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { run } from "../../src/host/run.ts";
import { CONSOLE_LOG, type HypervisorDriver } from "../../src/hypervisor/driver.ts";
import { createQemuDriver } from "../../src/hypervisor/qemu/driver.ts";
import { silentLogger } from "../../src/log.ts";
import {
  createFixture,
  type HypervisorFixture,
  makeDisk,
  makeTap,
  VM_USER,
  waitForConsole,
} from "../helpers/hypervisor-fixture.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { TINY_READY } from "../helpers/tiny-guest.ts";

describe("QEMU", { skip: needsNamespace(), timeout: 300_000 }, () => {
  let driver: HypervisorDriver;
  let fixture: HypervisorFixture;

  before(async () => {
    fixture = await createFixture("confinement-qemu");
    driver = await createQemuDriver({ logger: silentLogger });
  });
  after(() => fixture.finish(driver));

  function asUser(user: number, ...command: string[]): Promise<unknown> {
    const words = [`--reuid=${user}`, `--regid=${user}`, "--clear-groups", "--no-new-privs", "--"];
    return run("setpriv", [...words, ...command]);
  }

  test("its process is nobody's, without capabilities and a way to any, and sees only an empty room", async (t) => {
    await makeTap(t, "hyp1");
    const disk = await makeDisk(join(fixture.root, "private.raw"), "PRIVATE");
    const spec = await fixture.spec("confined", [], {
      disks: [{ path: disk, format: "raw", readOnly: false, serial: "root" }],
      nics: [{ tapName: "hyp1", macAddress: "52:54:00:aa:bb:cd" }],
    });
    const vm = await driver.start(spec);
    await waitForConsole(spec, TINY_READY);
    const threads = await readdir(`/proc/${vm.process.pid}/task`);
    assert.ok(threads.length > 1);
    for (const thread of threads) {
      const status = await readFile(`/proc/${vm.process.pid}/task/${thread}/status`, "utf8");
      assert.match(status, new RegExp(`^Uid:(\\t${VM_USER}){4}$`, "m"));
      assert.match(status, new RegExp(`^Gid:(\\t${VM_USER}){4}$`, "m"));
      assert.match(status, new RegExp(`^Groups:\\t${VM_USER} ?$`, "m"));
      // What it may inherit is worth nothing without a program that has it, and with an empty bounding set.
      for (const set of ["Prm", "Eff", "Bnd", "Amb"]) {
        assert.match(status, new RegExp(`^Cap${set}:\\t0+$`, "m"), set);
      }
      assert.match(status, /^NoNewPrivs:\t1$/m);
      assert.match(status, /^Seccomp:\t2$/m);
    }
    assert.equal(await readlink(`/proc/${vm.process.pid}/root`), spec.directory);
    assert.equal(await readlink(`/proc/${vm.process.pid}/cwd`), spec.directory);

    // Were it to break out of the room: its user may open nothing of any VM, not even its own, nor the device of the TAP.
    for (const path of [disk, join(spec.directory, CONSOLE_LOG), join(spec.directory, "qmp.sock")]) {
      await assert.rejects(asUser(VM_USER, "cat", path), /Permission denied/);
    }
    await assert.rejects(
      asUser(VM_USER, "ip", "tuntap", "add", "hyp1", "mode", "tap"),
      /not permitted|denied|busy/,
    );
    // Nor does another VM's user get at its process.
    await assert.rejects(asUser(VM_USER + 1, "kill", "-9", String(vm.process.pid)), /not permitted/);
    await assert.rejects(asUser(VM_USER + 1, "ls", `/proc/${vm.process.pid}/fd`), /denied/);
    await vm.stop({ graceMs: 0 });
  });
});
