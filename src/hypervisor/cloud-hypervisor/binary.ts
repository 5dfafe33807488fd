/** The installed Cloud Hypervisor: found, started once, and asked. */
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FleetingdError, messageOf, systemErrorCode } from "../../errors.ts";
import { findProgram, removeTree } from "../../host/files.ts";
import { waitFor } from "../../host/wait.ts";
import type { Logger } from "../../log.ts";
import { launchHypervisor } from "../hypervisor-process.ts";
import { type CloudHypervisorApi, createApi } from "./api.ts";
import { API_SOCKET, vmmArguments } from "./arguments.ts";
import { type Capabilities, capabilitiesOf } from "./capabilities.ts";
import { CLOUD_HYPERVISOR } from "./control.ts";

export const PROGRAM = "cloud-hypervisor";

const START_TIMEOUT_MS = 10_000;
const CALL_TIMEOUT_MS = 5_000;
const POLL_MS = 5;

/** Undefined if it is not on PATH. */
export async function findCloudHypervisor(): Promise<string | undefined> {
  return findProgram(PROGRAM);
}

/**
 * Starts a process of it without a VM, asks for its version, and tries what depends on the kernel.
 * @throws FleetingdError UNAVAILABLE if it is too old; HYPERVISOR_FAILED with its last output if it does not run here.
 */
export async function probeCloudHypervisor(
  command: readonly string[],
  logger: Logger,
): Promise<Capabilities> {
  const directory = await mkdtemp(join(tmpdir(), "fleetingd-vmm-"));
  const api = createApi(join(directory, API_SOCKET), () => undefined);
  try {
    const launch = [...command, ...vmmArguments({ id: "probe", directory })];
    const { process, exited } = await launchHypervisor(launch, directory, CLOUD_HYPERVISOR);
    try {
      let hasExited = process === undefined;
      void exited.then(() => {
        hasExited = true;
      });
      const version = await waitFor(() => versionOf(api, () => hasExited), {
        timeoutMs: START_TIMEOUT_MS,
        intervalMs: POLL_MS,
        what: `an answer of ${PROGRAM}`,
      });
      if (version === "ended") {
        const { lastOutput, exitCode } = await exited;
        throw new FleetingdError(
          "HYPERVISOR_FAILED",
          `${PROGRAM} ended with exit code ${exitCode}: ${lastOutput}`,
          { hint: CLOUD_HYPERVISOR.hints.find(({ pattern }) => pattern.test(lastOutput))?.hint },
        );
      }
      const can = capabilitiesOf(version);
      return { ...can, landlock: can.landlock && (await landlockWorks(api, logger)) };
    } finally {
      api.close();
      await process?.terminate(0);
    }
  } finally {
    await removeTree(directory);
  }
}

async function versionOf(api: CloudHypervisorApi, hasExited: () => boolean): Promise<string | undefined> {
  if (hasExited()) return "ended";
  try {
    return (await api.ping(CALL_TIMEOUT_MS)).version;
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
    return undefined;
  }
}

/** Where the kernel can't (before 6.2), Cloud Hypervisor says so, and would run the VM without: so it is found out beforehand. */
async function landlockWorks(api: CloudHypervisorApi, logger: Logger): Promise<boolean> {
  try {
    const nothing = { kernel: "/dev/null", cmdline: "" };
    await api.request(
      "vm.create",
      {
        cpus: { boot_vcpus: 1, max_vcpus: 1 },
        memory: { size: 64 * 1024 ** 2 },
        payload: nothing,
        rng: { src: "/dev/urandom" },
        serial: { mode: "Off" },
        console: { mode: "Off" },
        pvpanic: false,
        landlock_enable: true,
      },
      CALL_TIMEOUT_MS,
    );
    return true;
  } catch (error) {
    logger.warn("VMs' processes are not confined by Landlock, which needs Linux 6.2 or newer", {
      reason: messageOf(error),
    });
    return false;
  }
}
