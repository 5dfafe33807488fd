/** What is done to one machine: each step is a request and, as most only begin something, a wait for its task. */
import { FleetingdError } from "../../errors.ts";
import { type GrowingPauses, lookUntil } from "../../host/wait.ts";
import type { VcdConfig } from "./config.ts";
import type { Guest } from "./customization.ts";
import { isMissing } from "./errors.ts";
import type { Places } from "./places.ts";
import { composeRequest, reconfigureRequest, TPM, UNDEPLOY } from "./requests.ts";
import { pathOf, type Session, type VcdRequest } from "./session.ts";
import { runningTasks, waitForTask } from "./tasks.ts";
import { attribute, child, children, textOf, type XmlNode } from "./xml.ts";

const PAUSES: GrowingPauses = { firstMs: 500, longestMs: 5_000 };

/** What `status` says in numbers, where it says that a machine runs no job any more. */
const ENDED: Readonly<Record<string, string>> = {
  "-1": "FAILED_CREATION",
  "3": "SUSPENDED",
  "8": "POWERED_OFF",
  "6": "UNRECOGNIZED",
  "7": "UNRECOGNIZED",
};

export interface Removal {
  /** Asked before anything is done to it. */
  isOurs: (vapp: XmlNode) => boolean;
  /** Asked where the server says that there is no such thing, or that it is none of ours. */
  isGone: () => Promise<boolean>;
  signal: AbortSignal;
}

export class Machines {
  readonly #session: Session;
  readonly #config: VcdConfig;

  constructor(session: Session, config: VcdConfig) {
    this.#session = session;
    this.#config = config;
  }

  /** It is not interrupted: whether there is a vApp now must be known. */
  compose(
    places: Places,
    vapp: { name: string; description: string; vmName: string },
    patience: AbortSignal,
  ): Promise<XmlNode> {
    const path = `${pathOf(places.vdc)}/action/composeVApp`;
    const body = composeRequest(this.#config, places, vapp);
    return this.#session.request({ method: "POST", path, body, patience });
  }

  /** @returns its VM */
  async untilComposed(path: string, vapp: XmlNode, signal: AbortSignal): Promise<XmlNode> {
    for (const task of children(child(vapp, "Tasks"), "Task")) await waitForTask(this.#session, task, signal);
    const [vm] = children(child(await this.#get(path, signal), "Children"), "Vm");
    if (vm !== undefined) return vm;
    throw new FleetingdError(
      "HYPERVISOR_FAILED",
      `the vApp ${attribute(vapp, "name")} was made without its VM`,
    );
  }

  async configure(vm: XmlNode, guest: Guest, signal: AbortSignal): Promise<void> {
    const vmPath = pathOf(attribute(vm, "href") ?? "");
    const path = `${vmPath}/action/reconfigureVm`;
    await this.#run({ method: "POST", path, body: reconfigureRequest(this.#config, vm, guest), signal });
    if (!/^windows11/i.test(textOf(vm, "VmSpecSection", "OsType") ?? "")) return;
    // Windows 11 wants one, and a copy has not that of its template.
    await this.#run({
      method: "POST",
      path: `${vmPath}/action/editTrustedPlatformModule`,
      body: TPM,
      signal,
    });
  }

  async powerOn(vmPath: string, signal: AbortSignal): Promise<void> {
    await this.#run({ method: "POST", path: `${vmPath}/power/action/powerOn`, signal });
  }

  /** From the pool it is there at once, from DHCP when the guest has told it. */
  untilAddress(vmPath: string, signal: AbortSignal): Promise<string> {
    const look = async (): Promise<string | undefined> => {
      const vm = await this.#get(vmPath, signal);
      const connections = children(child(vm, "NetworkConnectionSection"), "NetworkConnection");
      const connection = connections.find((it) => attribute(it, "network") === this.#config.network);
      return textOf(connection, "IpAddress");
    };
    return lookUntil(look, PAUSES, signal);
  }

  /** Windows starts again in between, after it has answered once. */
  async untilCustomized(vmPath: string, signal: AbortSignal): Promise<void> {
    const look = async (): Promise<true | undefined> => {
      const section = await this.#get(`${vmPath}/guestcustomizationstatus`, signal);
      const status = textOf(section, "GuestCustStatus");
      if (status !== "GC_FAILED") return status === "GC_COMPLETE" || undefined;
      throw new FleetingdError("HYPERVISOR_FAILED", "the guest customization failed", {
        hint: "Its log is in the machine: C:\\Windows\\Temp\\customize-guest.log.",
      });
    };
    await lookUntil(look, PAUSES, signal);
  }

  /** Whatever is being done to it is given up. */
  async remove(path: string, { isOurs, isGone, signal }: Removal): Promise<void> {
    const cancelled = new Set<string>();
    const look = async (): Promise<true | undefined> => {
      try {
        const vapp = await this.#get(path, signal);
        if (!isOurs(vapp)) return true;
        const vms = children(child(vapp, "Children"), "Vm");
        const tasks = [vapp, ...vms].flatMap(runningTasks);
        if (tasks.length === 0) {
          await this.#undeployAndDelete(path, vapp, signal);
          return true;
        }
        for (const task of tasks) await this.#cancel(task, cancelled, signal);
        return undefined;
      } catch (error) {
        if (!isMissing(error)) throw error;
        return (await isGone()) || undefined;
      }
    };
    await lookUntil(look, PAUSES, signal);
  }

  /** Why it will run no job any more, or undefined if it will. */
  async whyEnded(path: string, signal: AbortSignal): Promise<string | undefined> {
    try {
      const vapp = await this.#get(path, signal);
      if (runningTasks(vapp).length > 0) return undefined;
      const status = ENDED[attribute(vapp, "status") ?? ""];
      return status === undefined ? undefined : `its status is ${status}`;
    } catch (error) {
      if (isMissing(error)) return "it was deleted";
      throw error;
    }
  }

  async #undeployAndDelete(path: string, vapp: XmlNode, signal: AbortSignal): Promise<void> {
    if (attribute(vapp, "deployed") === "true") {
      await this.#run({ method: "POST", path: `${path}/action/undeploy`, body: UNDEPLOY, signal });
    }
    await this.#run({ method: "DELETE", path, signal });
  }

  async #cancel(task: XmlNode, cancelled: Set<string>, signal: AbortSignal): Promise<void> {
    const path = attribute(task, "href") ?? "";
    if (cancelled.has(path)) return;
    cancelled.add(path);
    try {
      await this.#session.request({ method: "POST", path: `${path}/action/cancel`, signal });
    } catch (error) {
      // Not every task can be cancelled; then its end is waited for.
      if (signal.aborted) throw error;
    }
  }

  async #run(request: VcdRequest & { signal: AbortSignal }): Promise<void> {
    const answer = await this.#session.request(request);
    await waitForTask(this.#session, answer, request.signal);
  }

  #get(path: string, signal: AbortSignal): Promise<XmlNode> {
    return this.#session.request({ method: "GET", path, signal });
  }
}
