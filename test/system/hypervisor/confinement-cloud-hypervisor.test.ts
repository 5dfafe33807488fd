/**
 * What the process of a VM under Cloud Hypervisor may do on the host, seen from outside and as its user: with the stand-in, and with
 * the real one where it is on PATH and may use KVM. What the program does to itself (seccomp, Landlock) only the real one shows.
 */
import assert from "node:assert/strict";
import { chmod, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { run } from "../../../src/host/run.ts";
import { deviceGroups } from "../../../src/hypervisor/cloud-hypervisor/access.ts";
import { createCloudHypervisorDriver } from "../../../src/hypervisor/cloud-hypervisor/driver.ts";
import { CONSOLE_LOG, type HypervisorDriver } from "../../../src/hypervisor/driver.ts";
import { silentLogger } from "../../../src/log.ts";
import { takeBack } from "../../../src/sources/local/vm-user.ts";
import {
  createFixture,
  type HypervisorFixture,
  makeDisk,
  makeTap,
  openToUsers,
  READERS,
  VM_USER,
} from "../../helpers/hypervisor-fixture.ts";
import { obstacleToCloudHypervisor, putHypervisor } from "../../helpers/hypervisor-programs.ts";
import { needsNamespace } from "../../helpers/namespace.ts";

const OTHER_USER = VM_USER + 1;

for (const which of ["stand-in", "cloud-hypervisor"] as const) {
  const title = which === "stand-in" ? "Cloud Hypervisor's stand-in" : "Cloud Hypervisor";
  const skip =
    needsNamespace() || (which === "cloud-hypervisor" && (await obstacleToCloudHypervisor())) || false;
  describe(`the process of a VM: ${title}`, { skip, timeout: 120_000 }, () => {
    let driver: HypervisorDriver;
    let fixture: HypervisorFixture;
    const path = process.env["PATH"];

    before(async () => {
      fixture = await createFixture(`confinement-${which}`);
      const bin = `${fixture.root}-bin`;
      await putHypervisor(bin, which);
      await openToUsers(fixture.root, bin);
      process.env["PATH"] = `${bin}:${path}`;
      driver = await createCloudHypervisorDriver({ logger: silentLogger, readers: READERS });
    });
    after(async () => {
      process.env["PATH"] = path;
      await fixture.finish(driver);
      await rm(`${fixture.root}-bin`, { recursive: true });
    });

    function asUser(user: number, ...command: string[]): Promise<unknown> {
      const words = [`--reuid=${user}`, `--regid=${user}`, `--groups=${READERS}`, "--no-new-privs", "--"];
      return run("setpriv", [...words, ...command]);
    }

    test("is a user of its own from its first instruction on, without capabilities and a way to any", async (t) => {
      const tap = `chv-${which.slice(0, 5)}`;
      await makeTap(t, tap, VM_USER);
      const base = await makeDisk(join(fixture.root, "base.raw"), "GOLDEN");
      const disk = join(fixture.root, "disk.qcow2");
      await run("qemu-img", ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, disk]);
      for (const file of [base, disk]) await chmod(file, 0o600);
      const spec = await fixture.spec("confined", [], {
        nics: [{ tapName: tap, macAddress: "52:54:00:aa:bb:cd" }],
      });
      const seed = await makeDisk(join(spec.directory, "seed.iso"), "SECRET");
      const record = join(spec.directory, "record.json");
      await writeFile(record, "{}", { mode: 0o600 });
      const vm = await driver.start({
        ...spec,
        disks: [
          { path: disk, format: "qcow2", readOnly: false, serial: "root" },
          { path: seed, format: "raw", readOnly: true, serial: "seed" },
        ],
      });
      const tasks = `/proc/${vm.process.pid}/task`;
      const threads = await Promise.all(
        (await readdir(tasks)).map((thread) => readFile(join(tasks, thread, "status"), "utf8")),
      );
      for (const status of threads) {
        assert.match(status, new RegExp(`^Uid:(\\t${VM_USER}){4}$`, "m"));
        assert.match(status, new RegExp(`^Gid:(\\t${VM_USER}){4}$`, "m"));
        assert.match(status, new RegExp(`^Groups:\\t${READERS} ?$`, "m"));
        for (const set of ["Inh", "Prm", "Eff", "Bnd", "Amb"]) {
          assert.match(status, new RegExp(`^Cap${set}:\\t0+$`, "m"), set);
        }
        assert.match(status, /^NoNewPrivs:\t1$/m);
      }
      if (which === "cloud-hypervisor") assert.match(threads.join(""), /^Seccomp:\t2$/m);

      // In its directory it makes nothing any more, nor does it put anything in the place of root's.
      assert.equal((await stat(spec.directory)).mode & 0o777, 0o710);
      for (const command of [
        ["touch", join(spec.directory, "new")],
        ["rm", "-f", record],
        ["cat", record],
        ["cat", join(spec.directory, CONSOLE_LOG)],
        ["tee", base],
      ]) {
        await assert.rejects(asUser(VM_USER, ...command), /Permission denied/, command.join(" "));
      }
      // Another VM's user, who reads the same images, gets at nothing of this one.
      await asUser(OTHER_USER, "cat", base);
      for (const file of [disk, seed, join(spec.directory, "api.sock"), spec.directory]) {
        await assert.rejects(asUser(OTHER_USER, "cat", file), /Permission denied/, file);
      }
      await assert.rejects(
        asUser(OTHER_USER, "ip", "tuntap", "add", tap, "mode", "tap"),
        /not permitted|busy/,
      );
      await assert.rejects(asUser(OTHER_USER, "kill", "-9", String(vm.process.pid)), /not permitted/);
      await assert.rejects(asUser(OTHER_USER, "ls", `/proc/${vm.process.pid}/fd`), /denied/);
      // Nobody else reads the images at all.
      await assert.rejects(
        run("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", "--", "cat", base]),
        /denied/,
      );
      await vm.stop({ graceMs: 0 });

      // A disk that is kept, as a prebuild's, is not to be the next VM's that has this user.
      assert.equal((await stat(disk)).uid, VM_USER);
      await takeBack({ hypervisor: driver }, disk);
      const kept = await stat(disk);
      assert.deepEqual([kept.uid, kept.gid], [0, 0]);
    });

    test("that may not get to its files does not start, and the error says what to do", async () => {
      const spec = await fixture.spec("walled");
      await chmod(fixture.root, 0o700);
      try {
        await assert.rejects(driver.start(spec), { code: "HYPERVISOR_FAILED", hint: /chmod o\+x/ });
      } finally {
        await chmod(fixture.root, 0o711);
      }
    });
  });
}

describe("devices that users of VMs have to open", { skip: needsNamespace() }, () => {
  test("are theirs by a group, or all's; what is root's alone is refused", async () => {
    const folder = await run("mktemp", ["-d"]).then(({ stdout }) => stdout.trim());
    const device = join(folder, "device");
    await writeFile(device, "");
    for (const [owner, mode, expected] of [
      ["0:0", 0o666, []],
      ["0:909", 0o660, [909]],
    ] as const) {
      await run("chown", [owner, device]);
      await chmod(device, mode);
      assert.deepEqual(await deviceGroups([device, join(folder, "absent")]), expected);
    }
    for (const [owner, mode] of [
      ["0:909", 0o600],
      ["0:0", 0o660],
    ] as const) {
      await run("chown", [owner, device]);
      await chmod(device, mode);
      await assert.rejects(deviceGroups([device]), { code: "UNAVAILABLE", hint: /chgrp kvm/ });
    }
    await rm(folder, { recursive: true });
  });
});
