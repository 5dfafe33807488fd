/**
 * Runs a template: a VM of a golden image that boots, comes to rest, and is saved for clones to go on from.
 *
 * It gets a slot that nobody else has and a key that is thrown away with it. Whatever it knows all of its clones could find in
 * their memory, so it knows nothing that is worth anything.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { templateKernelArguments } from "../../cloudinit/kernel-arguments.ts";
import { generateSshKeyPair } from "../../cloudinit/keys.ts";
import { DEFAULT_USER, READY_COMMAND, SETTLE_COMMAND, WAIT_COMMAND } from "../../cloudinit/prebuild.ts";
import { renderIdentity } from "../../cloudinit/seed.ts";
import { FleetingdError } from "../../errors.ts";
import { ensureDirectory, removeTree } from "../../host/files.ts";
import { type LoginTarget, waitForLogin } from "../../host/ssh.ts";
import { CONSOLE_LOG, type RunningVm } from "../../hypervisor/driver.ts";
import type { GoldenImage } from "../../images/image.ts";
import type { SnapshotParts } from "../../images/snapshots.ts";
import type { Ipv6Prefix } from "../../network/ipv6.ts";
import { type SlotNetwork, slotNetwork, type VmSubnet } from "../../network/slots.ts";
import { type GuestChannel, openGuestChannel } from "./guest-channel.ts";
import type { LocalHost } from "./host.ts";
import { consoleTail } from "./prebuild.ts";
import { type ProcessLimits, snapshotVmSpec } from "./vm.ts";
import { whileWanted } from "./while-wanted.ts";

export interface TemplateMachine {
  vcpus: number;
  memoryMiB: number;
  console: "serial" | "virtio";
  subnet: VmSubnet;
  subnet6: Ipv6Prefix | undefined;
  dnsServers: readonly string[];
  limits: ProcessLimits;
  /** For its boot, and then for all the rest. */
  bootTimeoutMs: number;
}

export interface TemplateRun extends TemplateMachine {
  id: string;
  golden: GoldenImage;
  parts: SnapshotParts;
  signal: AbortSignal;
  onStep(step: string): void;
}

const SSH_PORT = 22;
/** What the first logins read from the disk is in memory for all clones. */
const WARMING_LOGINS = 2;

/** Leaves memory, state and disk in `parts`, and nothing else. @throws FleetingdError */
export async function runTemplate(host: LocalHost, options: TemplateRun): Promise<void> {
  const directory = join(host.stateDirectory, "prebuild", options.id);
  const leases = host.leasesOf(options.subnet);
  const network = slotNetwork(options.subnet, leases.acquire().slot, options.subnet6);
  let vm: RunningVm | undefined;
  try {
    await removeTree(directory);
    await ensureDirectory(directory);
    await host.fabric.attach({ network, egressInterface: undefined });
    const { golden, parts, vcpus, memoryMiB, console, id } = options;
    const spec = snapshotVmSpec({
      ...{ id, directory, vcpus, memoryMiB, console, golden, network },
      // No job runs in it, and it writes its state at the end.
      ...{ user: undefined, limits: options.limits },
      disk: parts.disk,
      kernelArguments: templateKernelArguments(golden, host),
    });
    const template = await host.hypervisor.start({ ...spec, memoryPath: parts.memoryPath }, options.signal);
    vm = template;
    await whileWanted(template, options.signal, async () => {
      await untilAtRest(template, network, options);
      options.onStep("saving it");
      await template.saveState(parts.stateDirectory, { timeoutMs: options.bootTimeoutMs });
    });
  } catch (error) {
    throw await explained(error, vm, directory);
  } finally {
    await vm?.stop({ graceMs: 0 });
    await host.fabric.detach(network);
    leases.release(network.slot);
    await removeTree(directory);
  }
}

/** Boots, warms up, and ends with a guest that waits for the identity of a clone. */
async function untilAtRest(vm: RunningVm, network: SlotNetwork, options: TemplateRun): Promise<void> {
  const { bootTimeoutMs: timeoutMs, signal, onStep } = options;
  const [userKey, hostKey] = [generateSshKeyPair("template"), generateSshKeyPair("template")];
  const identity = renderIdentity({
    ...{ instanceId: options.id, hostname: "template", user: DEFAULT_USER, hostKey },
    machineId: randomBytes(16).toString("hex"),
    network: { ...network, dnsServers: options.dnsServers },
    authorizedKeys: [userKey.publicKey],
    randomSeed: randomBytes(64),
    now: new Date(),
  });
  onStep("booting");
  await overChannel(vm, timeoutMs, (channel) => channel.become(identity, timeoutMs));
  const target: LoginTarget = {
    ...{ address: network.address, port: SSH_PORT, username: DEFAULT_USER },
    ...{ privateKey: userKey.privateKey, hostKey: hostKey.publicKey },
  };
  const run = (command: string): Promise<void> => runInGuest(target, command, timeoutMs, signal);
  await run(`${READY_COMMAND} ${Math.ceil(timeoutMs / 1000)}`);
  onStep("coming to rest");
  await run(SETTLE_COMMAND);
  for (let login = 0; login < WARMING_LOGINS; login++) await run("true");
  await run(WAIT_COMMAND);
  await overChannel(vm, timeoutMs, (channel) => channel.untilWaiting(timeoutMs));
}

/** Its end in the guest is another process each time, so it is opened each time. */
async function overChannel(
  vm: RunningVm,
  timeoutMs: number,
  work: (channel: GuestChannel) => Promise<void>,
): Promise<void> {
  const channel = await openGuestChannel(vm, timeoutMs);
  try {
    await work(channel);
  } finally {
    channel.close();
  }
}

async function runInGuest(
  target: LoginTarget,
  command: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const login = await waitForLogin(target, { timeoutMs, signal });
  try {
    const { exitCode, stdout, stderr } = await login.exec(command, timeoutMs, signal);
    if (exitCode === 0) return;
    throw new FleetingdError("HYPERVISOR_FAILED", `${command} failed in the template: ${stderr || stdout}`);
  } finally {
    login.close();
  }
}

async function explained(error: unknown, vm: RunningVm | undefined, directory: string): Promise<unknown> {
  if (vm === undefined) return error;
  const console = await consoleTail(join(directory, CONSOLE_LOG));
  if (console === "") return error;
  return new FleetingdError("HYPERVISOR_FAILED", `the template failed; its console ended with:\n${console}`, {
    cause: error,
  });
}
