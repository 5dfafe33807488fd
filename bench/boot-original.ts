/**
 * What this program replaces: for every VM the whole disk is copied, and at every start the whole of cloud-init runs.
 *
 * The same hypervisor, kernel and base image as ours, so that only the way differs. Where there is a choice it is the
 * quicker one for the original: only blocks that hold data are copied, the initrd is the small one, one ed25519 host key
 * comes with the seed, and no package list is updated.
 */
import { randomBytes } from "node:crypto";
import { mkdtemp } from "node:fs/promises";
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
import { waitForLogin } from "../src/host/ssh.ts";
import { detectAccelerator } from "../src/hypervisor/accelerator.ts";
import type { VmSpec } from "../src/hypervisor/driver.ts";
import { createQemuDriver } from "../src/hypervisor/qemu/driver.ts";
import type { BaseImage } from "../src/images/image.ts";
import { silentLogger } from "../src/log.ts";
import { createFabric } from "../src/network/fabric.ts";
import { parseVmSubnet, type SlotNetwork, slotNetwork } from "../src/network/slots.ts";
import { BENCH_IMAGES, DISK_SIZE_GIB, ensureBase, MEMORY_MIB } from "./images.ts";
import type { Measurement, Sample } from "./measurement.ts";

const ID = "original";
const SUBNET = "172.16.120.0/24";
const COPY_TIMEOUT_MS = 10 * 60_000;
const BOOT_TIMEOUT_MS = 10 * 60_000;

interface Machine {
  emulated: boolean;
  base: BaseImage;
  network: SlotNetwork;
  /** Of the copied disk. */
  disks: string;
  /** Of the VM. */
  directory: string;
  start(spec: VmSpec): Promise<{ stop(options: { graceMs: number }): Promise<void> }>;
}

export const originalBoot: Measurement = {
  metrics: [{ name: "boot.original.ssh.s" }, { name: "boot.original.ready.s" }],
  runs: 3,
  async prepare() {
    const base = await ensureBase();
    const accelerator = await detectAccelerator({ logger: silentLogger });
    const hypervisor = await createQemuDriver({ accelerator, logger: silentLogger });
    const subnet = parseVmSubnet(SUBNET);
    const network = slotNetwork(subnet, 0);
    const fabric = createFabric({ subnets: [subnet] });
    await fabric.open();
    await fabric.attach({ network, egressInterface: undefined });
    const directory = await mkdtemp(join(tmpdir(), "fleetingd-original-"));
    const disks = await mkdtemp(join(BENCH_IMAGES, "original-"));
    const start: Machine["start"] = (spec) => hypervisor.start(spec);
    const emulated = accelerator.kind === "tcg";
    return {
      run: () => bootOnce({ emulated, base, network, disks, directory, start }),
      async close() {
        await fabric.detach(network);
        await fabric.close();
        await removeTree(directory);
        await removeTree(disks);
      },
    };
  },
};

async function bootOnce(machine: Machine): Promise<Sample> {
  const diskPath = join(machine.disks, "disk.raw");
  const userKey = generateSshKeyPair(ID);
  const begunAt = performance.now();
  const secondsSince = (): number => (performance.now() - begunAt) / 1_000;
  await copyWhole(machine.base, diskPath);
  const seedPath = join(machine.directory, "seed.iso");
  await writeSeed(seedPath, seedFiles(machine.network, userKey.publicKey));
  const vm = await machine.start(specOf(machine, diskPath, seedPath));
  try {
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
    const sshSeconds = secondsSince();
    try {
      const { exitCode, stdout } = await login.exec("cloud-init status --wait", BOOT_TIMEOUT_MS);
      if (exitCode !== 0) throw new FleetingdError("INTERNAL", `cloud-init did not end well: ${stdout}`);
      return { "boot.original.ssh.s": sshSeconds, "boot.original.ready.s": secondsSince() };
    } finally {
      login.close();
    }
  } finally {
    await vm.stop({ graceMs: 0 });
    await removeTree(diskPath);
  }
}

async function copyWhole(base: BaseImage, path: string): Promise<void> {
  const options = { timeoutMs: COPY_TIMEOUT_MS };
  await run("qemu-img", ["convert", "-f", base.diskFormat, "-O", "raw", base.diskPath, path], options);
  await run("qemu-img", ["resize", "-q", "-f", "raw", path, `${DISK_SIZE_GIB}G`]);
}

function seedFiles(network: SlotNetwork, publicKey: string) {
  return renderSeed({
    // A new one each time, as for a new VM.
    instanceId: `${ID}-${randomBytes(4).toString("hex")}`,
    hostname: ID,
    machineId: randomBytes(16).toString("hex"),
    user: DEFAULT_USER,
    network: { ...network, dnsServers: [] },
    authorizedKeys: [publicKey],
    hostKey: generateSshKeyPair(ID),
    randomSeed: randomBytes(64),
    now: new Date(),
  });
}

function specOf(machine: Machine, diskPath: string, seedPath: string): VmSpec {
  return {
    id: ID,
    directory: machine.directory,
    vcpus: 1,
    memoryMiB: MEMORY_MIB,
    kernelPath: machine.base.kernelPath,
    initrdPath: machine.base.initrdPath,
    kernelArguments: prebuildKernelArguments(machine.base, machine),
    disks: [
      { path: diskPath, format: "raw", readOnly: false, serial: "fleetingd-root" },
      { path: seedPath, format: "raw", readOnly: true, serial: SEED_DISK_SERIAL },
    ],
    nics: [{ tapName: machine.network.tapName, macAddress: machine.network.macAddress }],
    console: "serial",
  };
}
