/** What tests of hypervisor drivers need: a folder of VMs, their specs, waiting for the console, and a search for leftovers. */
import assert from "node:assert/strict";
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import type { TestContext } from "node:test";
import { exists } from "../../src/host/files.ts";
import { run } from "../../src/host/run.ts";
import { waitFor, withTimeout } from "../../src/host/wait.ts";
import {
  CONSOLE_LOG,
  type HypervisorDriver,
  type RunningVm,
  type VmExit,
  type VmSpec,
} from "../../src/hypervisor/driver.ts";
import { prepareTinyGuest, type TinyGuest } from "./tiny-guest.ts";

/** Generous: several tests boot emulated VMs on the same two cores. */
export const BOOT_TIMEOUT_MS = 5 * 60_000;

/** The uid of VMs' processes; the tests' VMs share it. */
export const VM_USER = 1_900_000_007;
/** The group of what VMs of several users read. */
export const READERS = 1_900_000_099;

export interface HypervisorFixture {
  /** The folder that holds the VMs' directories. */
  readonly root: string;
  /** A VM of the tiny guest with a directory of its own; `words` go to its kernel command line. */
  spec(id: string, words?: readonly string[], more?: Partial<VmSpec>): Promise<VmSpec>;
  /** Asserts that no VM and no socket is left below the root, and removes it. */
  finish(driver: HypervisorDriver): Promise<void>;
}

export async function createFixture(name: string): Promise<HypervisorFixture> {
  const root = await mkdtemp(join(tmpdir(), `${name}-`));
  const guest = await copyTo(root, await prepareTinyGuest());
  return {
    root,
    async spec(id, words = [], more = {}) {
      const directory = more.directory ?? join(root, id);
      await mkdir(directory, { recursive: true });
      return {
        id,
        directory,
        vcpus: 1,
        memoryMiB: 128,
        ...guest,
        kernelArguments: ["quiet", ...words],
        disks: [],
        nics: [],
        console: "serial",
        user: VM_USER,
        ...more,
      };
    },
    async finish(driver) {
      const processes = await driver.list(root);
      const sockets = (await readdir(root, { recursive: true })).filter((path) => path.endsWith(".sock"));
      for (const { process: leftover } of processes) process.kill(leftover.pid, "SIGKILL");
      await rm(root, { recursive: true });
      assert.deepEqual({ processes, sockets }, { processes: [], sockets: [] }, "something was left behind");
    },
  };
}

/** A driver gives files to users: not those of the cache, where not every user may get. */
async function copyTo(folder: string, { kernelPath, initrdPath }: TinyGuest): Promise<TinyGuest> {
  const copy = { kernelPath: join(folder, "vmlinuz"), initrdPath: join(folder, "initrd") };
  await copyFile(kernelPath, copy.kernelPath);
  await copyFile(initrdPath, copy.initrdPath);
  return copy;
}

/**
 * What VMs' users need where they open everything themselves: they get through the folder, and (from now on, but only in this mount
 * namespace) may use these devices of the host, as where udev runs. Their nodes go into `nodes`.
 */
export async function openToUsers(root: string, nodes: string): Promise<void> {
  await chmod(root, 0o711);
  for (const path of ["/dev/kvm", "/dev/net/tun"]) {
    if (!(await exists(path))) continue;
    const { rdev, mode } = await stat(path);
    if ((mode & 0o006) === 0o006) continue;
    const node = join(nodes, basename(path));
    await run("mknod", ["--mode=666", node, "c", String(rdev >> 8), String(rdev & 0xff)]);
    await run("mount", ["--bind", node, path]);
  }
}

/** What the guest has printed so far. */
export async function consoleOf(spec: VmSpec): Promise<string> {
  return readFile(join(spec.directory, CONSOLE_LOG), "utf8");
}

/** Waits until the guest has printed `marker`; answers all that it printed. */
export async function waitForConsole(spec: VmSpec, marker: string): Promise<string> {
  return waitFor(
    async () => {
      const text = await consoleOf(spec);
      return text.includes(marker) ? text : undefined;
    },
    { timeoutMs: BOOT_TIMEOUT_MS, intervalMs: 50, what: `"${marker}" on the console of ${spec.id}` },
  );
}

/** How the VM ended; it has to do so soon. */
export async function exitOf(vm: RunningVm): Promise<VmExit> {
  return withTimeout(vm.exited, BOOT_TIMEOUT_MS, `the end of ${vm.id}`);
}

/** A disk of 8 MiB that begins with `text`. */
export async function makeDisk(path: string, text: string): Promise<string> {
  const disk = Buffer.alloc(8 * 1024 * 1024);
  disk.write(text);
  await writeFile(path, disk);
  return path;
}

/** A TAP in this network namespace, up, until the test ends. */
export async function makeTap(test: TestContext, name: string, user = 0): Promise<void> {
  await run("ip", ["tuntap", "add", name, "mode", "tap", "user", String(user)]);
  test.after(() => run("ip", ["link", "delete", name]));
  await run("ip", ["link", "set", name, "up"]);
}
