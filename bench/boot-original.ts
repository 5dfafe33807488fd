/**
 * What this program replaces: for every VM the whole disk is copied, and at every start the whole of cloud-init runs.
 *
 * The same hypervisor, kernel and base image as ours, so that only the way differs. Where there is a choice it is the
 * quicker one for the original: only blocks that hold data are copied, the initrd is the small one, one ed25519 host key
 * comes with the seed, and no package list is updated.
 */
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeSeed } from "../src/cloudinit/iso.ts";
import { prebuildKernelArguments } from "../src/cloudinit/kernel-arguments.ts";
import { generateSshKeyPair } from "../src/cloudinit/keys.ts";
import { DEFAULT_USER } from "../src/cloudinit/prebuild.ts";
import { renderSeed, SEED_DISK_SERIAL } from "../src/cloudinit/seed.ts";
import { FleetingdError } from "../src/errors.ts";
import { removeTree } from "../src/host/files.ts";
import { run } from "../src/host/run.ts";
import { type Login, waitForLogin } from "../src/host/ssh.ts";
import { detectAccelerator } from "../src/hypervisor/accelerator.ts";
import type { RunningVm, VmSpec } from "../src/hypervisor/driver.ts";
import { createQemuDriver } from "../src/hypervisor/qemu/driver.ts";
import type { BaseImage } from "../src/images/image.ts";
import { silentLogger } from "../src/log.ts";
import { createFabric } from "../src/network/fabric.ts";
import { parseVmSubnet, type SlotNetwork, slotNetwork } from "../src/network/slots.ts";
import { BENCH_IMAGES, DISK_SIZE_GIB, ensureBase, MEMORY_MIB } from "./images.ts";
import type { Measurement, Prepared, Sample } from "./measurement.ts";
import { pssMiB, usedMiB } from "./sizes.ts";

const ID = "original";
const SUBNET = "172.16.120.0/24";
const COPY_TIMEOUT_MS = 10 * 60_000;
const BOOT_TIMEOUT_MS = 20 * 60_000;
const BURST = 8;

interface Machine {
  id: string;
  emulated: boolean;
  base: BaseImage;
  network: SlotNetwork;
  diskPath: string;
  /** Of the VM. */
  directory: string;
  start(spec: VmSpec): Promise<RunningVm>;
}

/** A machine that somebody can log in to. */
interface Booted {
  vm: RunningVm;
  login: Login;
  sshSeconds: number;
}

export const originalBoot: Measurement = {
  metrics: [{ name: "boot.original.ssh.s" }, { name: "boot.original.ready.s" }],
  runs: 3,
  prepare: () => prepare(1),
};

export const originalBurst: Measurement = {
  metrics: [
    { name: "boot.original.burst8.ssh.s" },
    { name: "boot.original.burst8.pss.MiB" },
    { name: "boot.original.burst8.disk.MiB" },
  ],
  runs: 1,
  prepare: () => prepare(BURST),
};

async function prepare(count: number): Promise<Prepared> {
  const base = await ensureBase();
  const accelerator = await detectAccelerator({ logger: silentLogger });
  const hypervisor = await createQemuDriver({ accelerator, logger: silentLogger });
  const subnet = parseVmSubnet(SUBNET);
  const fabric = createFabric({ subnets: [subnet] });
  await fabric.open();
  const directory = await mkdtemp(join(tmpdir(), "fleetingd-original-"));
  const disks = await mkdtemp(join(BENCH_IMAGES, "original-"));
  const machines = Array.from({ length: count }, (_, slot): Machine => {
    const id = `${ID}-${slot}`;
    return {
      ...{ id, base, directory: join(directory, id), diskPath: join(disks, `${id}.raw`) },
      emulated: accelerator.kind === "tcg",
      network: slotNetwork(subnet, slot),
      start: (spec) => hypervisor.start(spec),
    };
  });
  for (const { network, directory: own } of machines) {
    await fabric.attach({ network, egressInterface: undefined });
    await mkdir(own);
  }
  return {
    run: () => runAll(machines),
    async close() {
      for (const { network } of machines) await fabric.detach(network);
      await fabric.close();
      await removeTree(directory);
      await removeTree(disks);
    },
  };
}

/** All at once, from the first copy to the last end of cloud-init. */
async function runAll(machines: readonly Machine[]): Promise<Sample> {
  const begunAt = performance.now();
  const running: RunningVm[] = [];
  try {
    const booted = await all(machines.map((machine) => boot(machine, begunAt, running)));
    await all(booted.map(({ login }) => untilReady(login)));
    const readySeconds = secondsSince(begunAt);
    const sshSeconds = Math.max(...booted.map((one) => one.sshSeconds));
    if (machines.length === 1)
      return { "boot.original.ssh.s": sshSeconds, "boot.original.ready.s": readySeconds };
    return {
      "boot.original.burst8.ssh.s": sshSeconds,
      "boot.original.burst8.pss.MiB": await mean(booted.map(({ vm }) => pssMiB(vm.process.pid))),
      "boot.original.burst8.disk.MiB": await mean(machines.map(({ diskPath }) => usedMiB(diskPath))),
    };
  } finally {
    for (const vm of running) await vm.stop({ graceMs: 0 });
    for (const { diskPath } of machines) await removeTree(diskPath);
  }
}

/** @param running gets the VM, whatever becomes of its boot */
async function boot(machine: Machine, begunAt: number, running: RunningVm[]): Promise<Booted> {
  const userKey = generateSshKeyPair(machine.id);
  await copyWhole(machine.base, machine.diskPath);
  const seedPath = join(machine.directory, "seed.iso");
  await writeSeed(seedPath, seedFiles(machine, userKey.publicKey));
  const vm = await machine.start(specOf(machine, seedPath));
  running.push(vm);
  const login = await waitForLogin(
    {
      address: machine.network.address,
      port: 22,
      username: DEFAULT_USER,
      privateKey: userKey.privateKey,
      hostKey: undefined,
    },
    { timeoutMs: BOOT_TIMEOUT_MS, signal: AbortSignal.timeout(BOOT_TIMEOUT_MS) },
  );
  return { vm, login, sshSeconds: secondsSince(begunAt) };
}

async function untilReady(login: Login): Promise<void> {
  try {
    const { exitCode, stdout } = await login.exec("cloud-init status --wait", BOOT_TIMEOUT_MS);
    if (exitCode !== 0) throw new FleetingdError("INTERNAL", `cloud-init did not end well: ${stdout}`);
  } finally {
    login.close();
  }
}

function secondsSince(begunAt: number): number {
  return (performance.now() - begunAt) / 1_000;
}

/** Also of those that fail nothing goes on any more. */
async function all<T>(works: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(works);
  return Promise.all(works);
}

async function mean(values: readonly Promise<number>[]): Promise<number> {
  const numbers = await Promise.all(values);
  return numbers.reduce((sum, one) => sum + one, 0) / numbers.length;
}

async function copyWhole(base: BaseImage, path: string): Promise<void> {
  const options = { timeoutMs: COPY_TIMEOUT_MS };
  await run("qemu-img", ["convert", "-f", base.diskFormat, "-O", "raw", base.diskPath, path], options);
  await run("qemu-img", ["resize", "-q", "-f", "raw", path, `${DISK_SIZE_GIB}G`]);
}

function seedFiles({ id, network }: Machine, publicKey: string) {
  return renderSeed({
    // A new one each time, as for a new VM.
    instanceId: `${id}-${randomBytes(4).toString("hex")}`,
    hostname: id,
    machineId: randomBytes(16).toString("hex"),
    user: DEFAULT_USER,
    network: { ...network, dnsServers: [] },
    authorizedKeys: [publicKey],
    hostKey: generateSshKeyPair(id),
    randomSeed: randomBytes(64),
    now: new Date(),
  });
}

function specOf(machine: Machine, seedPath: string): VmSpec {
  return {
    id: machine.id,
    directory: machine.directory,
    vcpus: 1,
    memoryMiB: MEMORY_MIB,
    kernelPath: machine.base.kernelPath,
    initrdPath: machine.base.initrdPath,
    kernelArguments: prebuildKernelArguments(machine.base, machine),
    disks: [
      { path: machine.diskPath, format: "raw", readOnly: false, serial: "fleetingd-root" },
      { path: seedPath, format: "raw", readOnly: true, serial: SEED_DISK_SERIAL },
    ],
    nics: [{ tapName: machine.network.tapName, macAddress: machine.network.macAddress }],
    console: "serial",
  };
}
