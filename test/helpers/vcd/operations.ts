/** What changes something, with the rules that the real server has: who is busy, what may be done in which state, what there is room for. */
import { randomUUID } from "node:crypto";
import { attribute, child, children, textOf, type XmlNode } from "../../../src/sources/vcd/xml.ts";
import { bootGuest } from "./guest.ts";
import { customized, sized } from "./reconfigured.ts";
import { bad, busy, forbidden, notIn, Refusal } from "./refusal.ts";
import {
  allVms,
  createVApp,
  createVm,
  type Task,
  type Template,
  type VApp,
  type Vm,
  type World,
} from "./world.ts";

export interface Steering {
  /** How long a task takes, one that copies a template, and a guest to boot. */
  taskMs: number;
  copyMs: number;
  bootMs: number;
  /** How many VMs the data center may have. */
  vmQuota: number;
  /** How many tasks may run at a time in the organization. */
  operationLimit: number;
  /** Tasks of this operation fail with this text, or never end. */
  broken: { operation: string; message: string } | undefined;
  hanging: string | undefined;
}

/** Without `broken`, all of it goes well. */
export const SWIFT: Steering = {
  taskMs: 20,
  copyMs: 20,
  bootMs: 30,
  vmQuota: Number.POSITIVE_INFINITY,
  operationLimit: Number.POSITIVE_INFINITY,
  broken: undefined,
  hanging: undefined,
};

export class Operations {
  readonly #world: World;
  readonly #steering: Steering;

  constructor(world: World, steering: Steering) {
    this.#world = world;
    this.#steering = steering;
  }

  compose(body: XmlNode): { vapp: VApp; task: Task | undefined } {
    const name = attribute(body, "name") ?? "";
    if (name === "" || name.length > 128) throw bad("Bad request - the name must have 1 to 128 characters.");
    if (this.#world.vapps.some((vapp) => vapp.name === name)) {
      throw new Refusal(400, "DUPLICATE_NAME", `The VCD entity ${name} already exists.`);
    }
    this.#checkOperations();
    const vapp = createVApp(name, textOf(body, "Description") ?? "");
    const networks = this.#networksOf(child(body, "InstantiationParams", "NetworkConfigSection"));
    const item = child(body, "SourcedItem");
    const add = item === undefined ? undefined : this.#sourced(vapp, networks, body, item);
    vapp.networks = networks;
    this.#world.vapps.push(vapp);
    const done = (): void => {
      add?.();
      vapp.state = "resolved";
    };
    return { vapp, task: this.#begin("vdcComposeVapp", vapp, done, () => (vapp.state = "failed")) };
  }

  recompose(vapp: VApp, body: XmlNode): Task {
    this.#checkIdle(vapp);
    const item = child(body, "SourcedItem");
    if (item === undefined) throw bad("Bad request - there is nothing to add.");
    const add = this.#sourced(vapp, vapp.networks, body, item);
    return this.#begin("vdcRecomposeVapp", vapp, add);
  }

  setNetworks(vapp: VApp, section: XmlNode): Task {
    this.#checkIdle(vapp);
    const networks = this.#networksOf(section);
    return this.#begin("vdcUpdateVappNetworkSection", vapp, () => {
      vapp.networks = networks;
    });
  }

  setMetadata(vapp: VApp, name: string, value: string): Task {
    this.#checkIdle(vapp);
    return this.#begin("metadataUpdate", vapp, () => void vapp.metadata.set(name, value));
  }

  customize(vm: Vm, section: XmlNode): Task {
    this.#checkIdle(vm);
    const merged = customized(vm, section);
    return this.#begin("vappUpdateVm", vm, () => {
      vm.customization = merged;
    });
  }

  reconfigure(vm: Vm, body: XmlNode): Task {
    this.#checkIdle(vm);
    const spec = child(body, "VmSpecSection");
    const section = child(body, "GuestCustomizationSection");
    const customization = section === undefined ? vm.customization : customized(vm, section);
    const resized = attribute(spec, "Modified") === "true" ? sized(vm, spec) : {};
    return this.#begin("vappUpdateVm", vm, () => {
      Object.assign(vm, resized, { customization, name: attribute(body, "name") ?? vm.name });
    });
  }

  setTpm(vm: Vm, body: XmlNode): Task {
    this.#checkIdle(vm);
    if (vm.state === "on") throw notIn("powered off", vm);
    return this.#begin("vappUpdateVm", vm, () => {
      vm.tpm = textOf(body, "TpmPresent") === "true";
    });
  }

  powerOn(owner: VApp | Vm): Task {
    this.#checkIdle(owner);
    const vms = vmsOf(owner);
    if (vms.length === 0 || vms.every(({ state }) => state !== "off")) throw notIn("powered off", owner);
    return this.#begin("vappPowerOn", owner, () => {
      for (const vm of vms) {
        vm.state = "on";
        vm.upAt = performance.now() + this.#steering.bootMs;
        void bootGuest(vm, this.#steering.bootMs, () => this.#address(vm));
      }
    });
  }

  powerOff(owner: VApp | Vm): Task {
    this.#checkIdle(owner);
    if (vmsOf(owner).every(({ state }) => state !== "on")) throw notIn("running", owner);
    return this.#begin("vappPowerOff", owner, () => turnOff(owner));
  }

  undeploy(owner: VApp | Vm, body: XmlNode): Task {
    this.#checkIdle(owner);
    const action = textOf(body, "UndeployPowerAction") ?? "default";
    if (!["powerOff", "suspend", "shutdown", "force", "default"].includes(action)) {
      throw bad(`Bad request - '${action}' is not one of UndeployPowerAction's values.`);
    }
    if (vmsOf(owner).every(({ state }) => state !== "on")) throw notIn("running", owner);
    return this.#begin("vappUndeployPowerOff", owner, () => turnOff(owner));
  }

  delete(owner: VApp | Vm): Task {
    this.#checkIdle(owner);
    if (vmsOf(owner).some(({ state }) => state === "on")) {
      throw new Refusal(
        400,
        "BAD_REQUEST",
        `The requested operation could not be executed since ${owner.kind} "${owner.name}" is not stopped. Stop or undeploy it first.`,
      );
    }
    return this.#begin("vdcDeleteVapp", owner, () => {
      if (owner.kind === "vApp") this.#world.vapps = this.#world.vapps.filter((vapp) => vapp !== owner);
      else owner.vapp.vms = owner.vapp.vms.filter((vm) => vm !== owner);
    });
  }

  /** A function that adds the VM when the copy is done. */
  #sourced(vapp: VApp, networks: readonly string[], body: XmlNode, item: XmlNode): () => void {
    const template = this.#templateOf(attribute(child(item, "Source"), "href") ?? "");
    if (template.needsEula && textOf(body, "AllEULAsAccepted") !== "true") {
      throw bad("The EULAs of the template must be accepted.");
    }
    const profile = attribute(child(item, "StorageProfile"), "href");
    const profiles = this.#world.storageProfiles;
    const storage = profile === undefined ? profiles[0] : profiles.find(({ id }) => profile.endsWith(id));
    if (storage === undefined) throw forbidden();
    const wanted = child(item, "InstantiationParams", "NetworkConnectionSection", "NetworkConnection");
    const network = attribute(wanted, "network") ?? "none";
    const mode = textOf(wanted, "IpAddressAllocationMode") ?? "NONE";
    if (wanted !== undefined && !networks.includes(network)) {
      throw bad(`The network "${network}" is not a network of the vApp "${vapp.name}".`);
    }
    if (!["POOL", "DHCP", "MANUAL", "NONE"].includes(mode)) throw bad(`Bad request - '${mode}' is no mode.`);
    if (allVms(this.#world).length >= this.#steering.vmQuota) {
      throw new Refusal(
        400,
        "BAD_REQUEST",
        `The requested operation will exceed the VM quota of ${this.#steering.vmQuota} of the VDC "${this.#world.vdc.name}".`,
      );
    }
    const name =
      textOf(item, "VmGeneralParams", "Name") ?? attribute(child(item, "Source"), "name") ?? template.name;
    const vm = createVm(vapp, template, name);
    vm.storageProfile = storage.name;
    vapp.vms.push(vm);
    if (wanted !== undefined) {
      vm.connection = { network, mode, address: undefined };
      if (mode === "POOL") vm.connection.address = this.#freeAddress();
    }
    return () => {
      vm.state = "off";
    };
  }

  #templateOf(href: string): Template {
    const template = this.#world.templates.find(({ id }) => href.includes(`/vAppTemplate/vm-${id}-`));
    if (template === undefined) throw forbidden();
    if (template.status !== 8) throw bad(`The template ${template.name} is not ready.`);
    return template;
  }

  #networksOf(section: XmlNode | undefined): string[] {
    return children(section, "NetworkConfig").map((config) => {
      const parent = attribute(child(config, "Configuration", "ParentNetwork"), "href") ?? "";
      if (!parent.endsWith(this.#world.network.id)) throw forbidden();
      if (textOf(config, "Configuration", "FenceMode") !== "bridged")
        throw bad("Only FenceMode bridged is possible here.");
      return attribute(config, "networkName") ?? "";
    });
  }

  #address(vm: Vm): void {
    if (vm.connection?.mode === "DHCP") vm.connection.address ??= this.#freeAddress();
  }

  #freeAddress(): string {
    const taken = new Set(allVms(this.#world).map(({ connection }) => connection?.address));
    const free = this.#world.pool.find((address) => !taken.has(address));
    if (free !== undefined) return free;
    throw new Refusal(
      400,
      "BAD_REQUEST",
      `There are no available IP addresses in the network "${this.#world.network.name}".`,
    );
  }

  /** A vApp does one thing at a time, and so does each of its VMs; what is done to one keeps the other from being changed. */
  #checkIdle(owner: VApp | Vm): void {
    const related = owner.kind === "vm" ? [owner, owner.vapp] : [owner, ...owner.vms];
    for (const task of this.#world.tasks.values()) {
      if (task.status === "running" && related.includes(task.owner))
        throw busy(task.owner.name, task.operation);
    }
    this.#checkOperations();
  }

  #checkOperations(): void {
    const running = [...this.#world.tasks.values()].filter(({ status }) => status === "running");
    if (running.length < this.#steering.operationLimit) return;
    throw new Refusal(
      400,
      "OPERATION_LIMITS_EXCEEDED",
      "The maximum number of simultaneous operations for the organization has been reached.",
    );
  }

  #begin(operation: string, owner: VApp | Vm, done: () => void, failed: () => void = () => undefined): Task {
    const { broken, hanging, taskMs, copyMs } = this.#steering;
    const end = (status: Task["status"], error?: Task["error"]): void => {
      if (task.status !== "running") return;
      clearTimeout(timer);
      Object.assign(task, { status, error });
      if (status === "success") done();
      else failed();
    };
    // What is made of nothing is made at once.
    const isCopy =
      operation === "vdcRecomposeVapp" || (operation === "vdcComposeVapp" && vmsOf(owner).length > 0);
    const task: Task = {
      id: randomUUID(),
      operation,
      status: "running",
      error: undefined,
      owner,
      cancel: () => end("aborted", { message: "The task was cancelled.", minor: "TASK_CANCELLED" }),
    };
    const timer = setTimeout(
      () => {
        if (broken?.operation === operation)
          end("error", { message: broken.message, minor: "INTERNAL_SERVER_ERROR" });
        else if (hanging !== operation) end("success");
      },
      isCopy ? copyMs : taskMs,
    );
    this.#world.tasks.set(task.id, task);
    return task;
  }
}

function vmsOf(owner: VApp | Vm): readonly Vm[] {
  return owner.kind === "vm" ? [owner] : owner.vms;
}

function turnOff(owner: VApp | Vm): void {
  for (const vm of vmsOf(owner)) {
    if (vm.state === "on") vm.state = "off";
    vm.upAt = Number.POSITIVE_INFINITY;
  }
}
