/**
 * The local host as a source of instances: the one place that joins hypervisor, network, images and cloud-init.
 *
 * Creation: record (slot, paths) → network ∥ clone ∥ seed → VM → login → ready. The network's rules are in force
 * before the VM starts. Deletion goes the other way, and every part of it may find its work done already.
 */
import { randomBytes } from "node:crypto";
import { dirname, join } from "node:path";
import { writeSeed } from "../../cloudinit/iso.ts";
import { generateSshKeyPair, type SshKeyPair } from "../../cloudinit/keys.ts";
import { type BootProfile, DEFAULT_USER, READY_COMMAND } from "../../cloudinit/prebuild.ts";
import { renderSeed } from "../../cloudinit/seed.ts";
import { FleetingdError } from "../../errors.ts";
import { explainDiskFull } from "../../host/disk-full.ts";
import { ensureDirectory, removeTree } from "../../host/files.ts";
import { readSshBanner, waitForLogin } from "../../host/ssh.ts";
import { CONSOLE_LOG, type RunningVm } from "../../hypervisor/driver.ts";
import { type Clone, createClone } from "../../images/clones.ts";
import { goldenDiskPath } from "../../images/golden.ts";
import type { GoldenImage } from "../../images/image.ts";
import type { Logger } from "../../log.ts";
import type { Ipv6Prefix } from "../../network/ipv6.ts";
import type { Leases } from "../../network/leases.ts";
import { parseVmSubnet, type SlotNetwork, slotNetwork, type VmSubnet } from "../../network/slots.ts";
import type {
  CheckedInstance,
  CheckOptions,
  ConnectInfo,
  CreateContext,
  CreatedInstance,
  Room,
  Source,
  SourceData,
  StoredInstance,
} from "../source.ts";
import { fullFromInside, fullFromOutside } from "./disk-room.ts";
import type { GoldenImages } from "./golden-images.ts";
import type { LocalHost } from "./host.ts";
import { consoleTail } from "./prebuild.ts";
import {
  cloneSuffix,
  clonesDirectory,
  type LocalData,
  networkOf,
  type ProcessLimits,
  parseLocalData,
  seedPath,
  vmSpec,
} from "./vm.ts";

export interface LocalSourceOptions {
  host: LocalHost;
  images: GoldenImages;
  diskDirectory: string;
  subnet: VmSubnet;
  subnet6: Ipv6Prefix | undefined;
  egressInterface: string | undefined;
  /** The name of the network policy that its VMs have. */
  policy: string;
  dnsServers: readonly string[];
  vcpus: number;
  memoryMiB: number;
  limits: ProcessLimits;
  console: "serial" | "virtio";
  bootProfile: BootProfile;
  bootTimeoutMs: number;
  logger: Logger;
}

const SSH_PORT = 22;
/** In a clone's folder. */
const CLONE_DISK = "disk";

export class LocalSource implements Source {
  readonly name = "local";
  readonly #options: LocalSourceOptions;
  readonly #leases: Leases;
  readonly #running = new Map<string, RunningVm>();
  #onLost: (id: string, reason: string) => void = () => undefined;
  #onTrouble: (id: string, reason: string) => void = () => undefined;

  constructor(options: LocalSourceOptions) {
    this.#options = options;
    this.#leases = options.host.leasesOf(options.subnet);
  }

  onTrouble(listener: (id: string, reason: string) => void): void {
    this.#onTrouble = listener;
  }

  onLost(listener: (id: string, reason: string) => void): void {
    this.#onLost = listener;
  }

  isOutdated(data: SourceData): boolean {
    const { images, memoryMiB, vcpus } = this.#options;
    const { current } = images.status;
    const { memoryMiB: hasMiB = memoryMiB, vcpus: hasVcpus = vcpus } = data;
    if (hasMiB !== memoryMiB || hasVcpus !== vcpus) return true;
    return current !== undefined && data["goldenImage"] !== current.name;
  }

  async create(context: CreateContext): Promise<CreatedInstance> {
    const { id, directory, signal } = context;
    const { memoryMiB, vcpus } = this.#options;
    this.#options.host.admission.promise(id, { memoryMiB, vcpus });
    context.phase("image");
    const golden = await this.#options.images.current(signal);
    signal.throwIfAborted();
    const { subnet, subnet6 } = this.#options;
    const network = slotNetwork(subnet, this.#leases.acquire().slot, subnet6);
    const { diskDirectory, host } = this.#options;
    const cloneName = `${id}${cloneSuffix(host.stateDirectory)}`;
    const cloneDirectory = join(clonesDirectory(diskDirectory), cloneName);
    const { slot } = network;
    const user = host.users.acquire();
    const data: LocalData = {
      subnet: subnet.cidr,
      slot,
      ...(subnet6 === undefined ? {} : { subnet6: subnet6.cidr }),
      cloneDirectory,
      goldenImage: golden.name,
      memoryMiB,
      vcpus,
      ...(user === undefined ? {} : { user }),
    };
    await context.save(data);

    context.phase("clone");
    const identity = newIdentity(id);
    const [clone] = await allSettled([
      this.#makeClone(cloneDirectory, golden),
      this.#attach(network),
      writeSeed(seedPath(directory), this.#seedFiles(id, network, identity), signal),
    ]);

    context.phase("boot");
    const { console, bootProfile, limits } = this.#options;
    const { machineId } = identity;
    const machine = { vcpus, memoryMiB, console, bootProfile, emulated: host.emulated, user, limits };
    const spec = vmSpec({ ...machine, id, directory, machineId, golden, clone, network });
    const vm = await host.hypervisor.start(spec, signal);
    this.#running.set(id, vm);
    await context.save({ ...data, process: vm.process });
    const connectInfo = connectInfoOf(network, identity.userKey);
    await this.#untilReady(context, vm, connectInfo, identity.hostKey.publicKey);
    this.#watch(id, vm);
    return { connectInfo };
  }

  async delete(instance: StoredInstance): Promise<void> {
    const { id } = instance;
    const vm = this.#running.get(id) ?? (await this.#findVm(instance));
    this.#running.delete(id);
    await vm?.stop({ graceMs: 0 });
    this.#options.host.admission.release(id);
    const data = parseLocalData(id, instance.data);
    if (data === undefined) return;
    await this.#options.host.fabric.detach(networkOf(data));
    await removeTree(data.cloneDirectory);
    this.#leasesOf(data).release(data.slot);
    if (data.user !== undefined) this.#options.host.users.release(data.user);
  }

  async resume(instance: StoredInstance): Promise<boolean> {
    const { id, directory } = instance;
    const data = parseLocalData(id, instance.data);
    if (data === undefined) return false;
    const { memoryMiB = this.#options.memoryMiB, vcpus = this.#options.vcpus } = data;
    this.#options.host.admission.promise(id, { memoryMiB, vcpus });
    this.#leasesOf(data).acquireSlot(data.slot);
    if (data.user !== undefined) this.#options.host.users.reserve(data.user);
    if (data.process === undefined) return false;
    const vm = await this.#options.host.hypervisor.adopt({ id, directory, process: data.process });
    if (vm === undefined) return false;
    this.#running.set(id, vm);
    this.#watch(id, vm);
    await this.#attach(networkOf(data));
    return true;
  }

  #attach(network: SlotNetwork): Promise<void> {
    const { host, egressInterface, policy } = this.#options;
    return host.fabric.attach({ network, egressInterface, policy });
  }

  /** Of the subnet that it was made in, which an earlier configuration may have named. */
  #leasesOf({ subnet }: LocalData): Leases {
    return this.#options.host.leasesOf(parseVmSubnet(subnet));
  }

  room(): Promise<Room> {
    const { host, diskDirectory, memoryMiB, vcpus } = this.#options;
    return host.admission.room({ memoryMiB, vcpus }, diskDirectory);
  }

  async check(instance: CheckedInstance, { answerMs, signal }: CheckOptions): Promise<string | undefined> {
    const { address, port } = instance.connectInfo;
    await readSshBanner(address, port, AbortSignal.any([signal, AbortSignal.timeout(answerMs)]));
    if (!instance.isClaimed) return fullFromInside(instance.connectInfo, signal);
    const data = parseLocalData(instance.id, instance.data);
    if (data === undefined) return undefined;
    const { cloneDirectory, goldenImage } = data;
    const golden = goldenDiskPath(dirname(dirname(cloneDirectory)), goldenImage);
    return fullFromOutside(join(cloneDirectory, CLONE_DISK), golden);
  }

  /** A VM that an earlier daemon started, perhaps without living long enough to note its process. */
  async #findVm({ directory }: StoredInstance): Promise<RunningVm | undefined> {
    const { hypervisor } = this.#options.host;
    const found = (await hypervisor.list(dirname(directory))).find((vm) => vm.directory === directory);
    return found && hypervisor.adopt(found);
  }

  async #makeClone(directory: string, golden: GoldenImage): Promise<Clone> {
    try {
      await ensureDirectory(directory);
      return await createClone(golden, join(directory, CLONE_DISK));
    } catch (error) {
      throw explainDiskFull(error, "another clone", this.#options.diskDirectory);
    }
  }

  #seedFiles(id: string, network: SlotNetwork, identity: Identity) {
    return renderSeed({
      instanceId: id,
      hostname: id,
      machineId: identity.machineId,
      user: DEFAULT_USER,
      network: { ...network, dnsServers: this.#options.dnsServers },
      authorizedKeys: [identity.userKey.publicKey],
      hostKey: identity.hostKey,
      randomSeed: randomBytes(64),
      now: new Date(),
    });
  }

  /** Waits for a login and for the rest of the system; a VM that ends meanwhile is not waited for. */
  async #untilReady(
    context: CreateContext,
    vm: RunningVm,
    info: ConnectInfo,
    hostKey: string,
  ): Promise<void> {
    const ended = new AbortController();
    const signal = AbortSignal.any([context.signal, ended.signal]);
    void vm.exited.then(() => ended.abort());
    const deadline = performance.now() + this.#options.bootTimeoutMs;
    try {
      const login = await waitForLogin(
        { ...info, hostKey },
        { timeoutMs: this.#options.bootTimeoutMs, signal },
      );
      try {
        context.phase("ready");
        const remainingMs = Math.max(1_000, deadline - performance.now());
        const { exitCode, stderr, stdout } = await login.exec(READY_COMMAND, remainingMs);
        if (exitCode === 0) return;
        throw new FleetingdError(
          "HYPERVISOR_FAILED",
          `the system in ${context.id} did not come up: ${stderr || stdout}`,
        );
      } finally {
        login.close();
      }
    } catch (error) {
      if (!ended.signal.aborted || context.signal.aborted) throw error;
      const { lastOutput } = await vm.exited;
      // Its folder goes with it, so what its console said is told here.
      const console = await consoleTail(join(context.directory, CONSOLE_LOG));
      throw new FleetingdError(
        "HYPERVISOR_FAILED",
        `the VM ${context.id} ended while it booted: ${lastOutput || "it said nothing"}${console && `\nits console ended with:\n${console}`}`,
        { cause: error },
      );
    }
  }

  #watch(id: string, vm: RunningVm): void {
    void vm.diskFailed.then((reason) => {
      if (this.#running.get(id) === vm) this.#onTrouble(id, `its disk failed: ${reason}`);
    });
    void vm.exited.then(({ lastOutput }) => {
      if (this.#running.get(id) !== vm) return;
      this.#onLost(id, `its VM ended by itself${lastOutput === "" ? "" : `: ${lastOutput}`}`);
    });
  }
}

interface Identity {
  machineId: string;
  userKey: SshKeyPair;
  hostKey: SshKeyPair;
}

function newIdentity(id: string): Identity {
  return {
    machineId: randomBytes(16).toString("hex"),
    userKey: generateSshKeyPair(`fleetingd ${id}`),
    hostKey: generateSshKeyPair(id),
  };
}

function connectInfoOf(network: SlotNetwork, userKey: SshKeyPair): ConnectInfo {
  return {
    os: "linux",
    arch: process.arch === "arm64" ? "arm64" : "amd64",
    protocol: "ssh",
    username: DEFAULT_USER,
    privateKey: userKey.privateKey,
    address: network.address,
    port: SSH_PORT,
  };
}

/** Like Promise.all, but settles only when all have: no work may go on behind a deletion. */
async function allSettled<T extends readonly unknown[] | []>(
  work: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(work);
  return Promise.all(work);
}
