/**
 * The local host as a source of instances: the one place that joins hypervisor, network, images and cloud-init.
 *
 * Creation: record (slot, paths) → network ∥ clone ∥ seed → VM → login → ready. A VM that goes on from a snapshot is told who
 * it is while nobody can reach it; one that can't, boots. The network's rules are in force
 * before the VM starts. Deletion goes the other way, and every part of it may find its work done already.
 */
import { dirname, join } from "node:path";
import { type BootProfile, DEFAULT_USER, READY_COMMAND } from "../../cloudinit/prebuild.ts";
import { describeError, FleetingdError } from "../../errors.ts";
import { removeTree } from "../../host/files.ts";
import { readSshBanner, waitForLogin } from "../../host/ssh.ts";
import { CONSOLE_LOG, type RunningVm } from "../../hypervisor/driver.ts";
import { goldenDiskPath } from "../../images/golden.ts";
import type { SnapshotImage } from "../../images/image.ts";
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
import { fullFromInside, fullFromOutside, hasWrittenMuch, readUsage } from "./disk-room.ts";
import type { GoldenImages } from "./golden-images.ts";
import type { LocalHost } from "./host.ts";
import { newIdentity } from "./identity.ts";
import { consoleTail } from "./prebuild.ts";
import { restVm, spareMiB, wakeVm } from "./rest.ts";
import type { Snapshots } from "./snapshots.ts";
import { bootVm, CLONE_DISK, makeDisk, makeSeed, resumeVm, type VmOrder } from "./start-vm.ts";
import {
  cloneSuffix,
  clonesDirectory,
  type LocalData,
  networkOf,
  type ProcessLimits,
  parseLocalData,
} from "./vm.ts";
import { tapOwner } from "./vm-user.ts";
import { whileWanted } from "./while-wanted.ts";

export interface LocalSourceOptions {
  host: LocalHost;
  images: GoldenImages;
  snapshots: Snapshots;
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
  idleMode: "running" | "paused";
  logger: Logger;
}

const SSH_PORT = 22;

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

  open(): void {
    this.#options.snapshots.begin(this.#options.images.status.current);
  }

  isOutdated(data: SourceData): boolean {
    const { images, memoryMiB, vcpus } = this.#options;
    const { current } = images.status;
    const { memoryMiB: hasMiB = memoryMiB, vcpus: hasVcpus = vcpus } = data;
    if (hasMiB !== memoryMiB || hasVcpus !== vcpus) return true;
    return current !== undefined && data["goldenImage"] !== current.name;
  }

  /** @throws FleetingdError */
  async create(context: CreateContext): Promise<CreatedInstance> {
    const { id, directory, signal } = context;
    const { memoryMiB, vcpus } = this.#options;
    this.#options.host.admission.promise(id, { memoryMiB, vcpus });
    context.phase("image");
    const golden = await this.#options.images.current(signal);
    const { diskDirectory, host, snapshots, subnet, subnet6 } = this.#options;
    const snapshot = await snapshots.current(golden, signal);
    signal.throwIfAborted();
    if (snapshot === undefined && snapshots.trouble !== undefined)
      context.fellBack("boot", snapshots.trouble);
    // From here to the record nothing may fail that is waited for: who deletes learns of the slot by the record alone.
    const network = slotNetwork(subnet, this.#leases.acquire().slot, subnet6);
    const cloneName = `${id}${cloneSuffix(host.stateDirectory)}`;
    const cloneDirectory = join(clonesDirectory(diskDirectory), cloneName);
    const user = host.users.acquire();
    const data: LocalData = {
      subnet: subnet.cidr,
      slot: network.slot,
      ...(subnet6 === undefined ? {} : { subnet6: subnet6.cidr }),
      cloneDirectory,
      goldenImage: golden.name,
      memoryMiB,
      vcpus,
      ...(user === undefined ? {} : { user }),
    };
    const identity = newIdentity(id);
    const { console, bootProfile, dnsServers, limits } = this.#options;
    const machine = { vcpus, memoryMiB, console, bootProfile, dnsServers, user, limits };
    const order = { ...machine, id, directory, cloneDirectory, golden, network, identity, signal };
    const connectInfo = connectInfoOf(network, identity.userKey.privateKey);
    await context.save(snapshot === undefined ? data : { ...data, snapshot: snapshot.name });
    const resumed = snapshot && (await this.#resume(context, order, snapshot));
    if (snapshot !== undefined && resumed === undefined) await context.save(data);
    const vm = resumed ?? (await this.#boot(context, order));
    this.#running.set(id, vm);
    const source = resumed === undefined ? {} : { snapshot: snapshot?.name };
    await context.save({ ...data, ...source, process: vm.process });
    try {
      await whileWanted(vm, signal, () =>
        this.#untilReady(context, vm, connectInfo, identity.hostKey.publicKey),
      );
      if (resumed === undefined) snapshots.begin(golden);
      else snapshots.succeeded();
    } catch (error) {
      if (resumed !== undefined && snapshot !== undefined && !signal.aborted)
        snapshots.failed(snapshot, describeError(error));
      throw error;
    }
    this.#watch(id, vm);
    return { connectInfo };
  }

  /** Undefined if it could not, and is to boot instead. */
  async #resume(
    context: CreateContext,
    order: VmOrder,
    snapshot: SnapshotImage,
  ): Promise<RunningVm | undefined> {
    const { host, snapshots, logger } = this.#options;
    context.phase("clone");
    const [disk] = await allSettled([makeDisk(order, snapshot), this.#attach(order.network, order.user)]);
    context.phase("resume");
    try {
      return await resumeVm(host, order, disk, snapshot);
    } catch (error) {
      if (context.signal.aborted) throw error;
      const reason = describeError(error);
      snapshots.failed(snapshot, reason);
      if (snapshots.status.mode === "snapshot") throw error;
      const { id } = order;
      logger.warn("a VM boots, for it could not go on from the snapshot", {
        instance: id,
        stage: "CREATE",
        snapshot: snapshot.name,
        reason,
      });
      context.fellBack("boot", reason);
      return undefined;
    }
  }

  async #boot(context: CreateContext, order: VmOrder): Promise<RunningVm> {
    context.phase("clone");
    const [disk] = await allSettled([
      makeDisk(order, order.golden),
      this.#attach(order.network, order.user),
      makeSeed(order),
    ]);
    context.phase("boot");
    return bootVm(this.#options.host, order, disk);
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
    await this.#attach(networkOf(data), data.user);
    return true;
  }

  rests(): boolean {
    return this.#options.idleMode === "paused";
  }

  async rest({ id, data }: StoredInstance, signal: AbortSignal): Promise<void> {
    await restVm(this.#runningVm(id), this.#spareMiB(id, data), signal);
  }

  async wake(instance: Omit<CheckedInstance, "isClaimed">, signal: AbortSignal): Promise<void> {
    const { id, connectInfo, data } = instance;
    const { bootTimeoutMs: timeoutMs } = this.#options;
    await wakeVm(this.#runningVm(id), this.#spareMiB(id, data), { connectInfo, timeoutMs, signal });
  }

  #spareMiB(id: string, data: SourceData): number {
    const parsed = parseLocalData(id, data);
    return spareMiB(parsed?.memoryMiB ?? this.#options.memoryMiB, parsed?.snapshot !== undefined);
  }

  #runningVm(id: string): RunningVm {
    const vm = this.#running.get(id);
    if (vm === undefined) throw new FleetingdError("NOT_FOUND", `the VM ${id} does not run`);
    return vm;
  }

  #attach(network: SlotNetwork, user: number | undefined): Promise<void> {
    const { host, egressInterface, policy } = this.#options;
    return host.fabric.attach({ network, egressInterface, policy, tapOwner: tapOwner(host, user) });
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
    await readSshBanner(instance.connectInfo, { timeoutMs: answerMs, signal });
    const data = parseLocalData(instance.id, instance.data);
    if (data === undefined) return undefined;
    const { cloneDirectory, goldenImage } = data;
    const golden = goldenDiskPath(dirname(dirname(cloneDirectory)), goldenImage);
    const usage = await readUsage(join(cloneDirectory, CLONE_DISK), golden);
    if (instance.isClaimed) return fullFromOutside(usage);
    return hasWrittenMuch(usage) ? fullFromInside(instance.connectInfo, signal) : undefined;
  }

  /** A VM that an earlier daemon started, perhaps without living long enough to note its process. */
  async #findVm({ directory }: StoredInstance): Promise<RunningVm | undefined> {
    const { hypervisor } = this.#options.host;
    const found = (await hypervisor.list(dirname(directory))).find((vm) => vm.directory === directory);
    return found && hypervisor.adopt(found);
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
        const { exitCode, stderr, stdout } = await login.exec(READY_COMMAND, remainingMs, signal);
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

function connectInfoOf(network: SlotNetwork, privateKey: string): ConnectInfo {
  return {
    os: "linux",
    arch: process.arch === "arm64" ? "arm64" : "amd64",
    protocol: "ssh",
    username: DEFAULT_USER,
    privateKey,
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
