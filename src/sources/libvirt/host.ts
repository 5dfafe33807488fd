/** What a libvirt daemon's host has for machines: a template, a way to run them, a storage pool and a network. */
import { FleetingdError } from "../../errors.ts";
import { abortable } from "../../host/wait.ts";
import { readArchitecture, readTemplate, type Template } from "./answers.ts";
import type { LibvirtConfig } from "./config.ts";
import type { Virsh } from "./virsh.ts";

/** How long a template's volume, once looked up, stays known. */
const TEMPLATE_AGE_MS = 60_000;

export interface Emulation {
  domainType: "kvm" | "qemu";
  /** As runners call it, if they have a word for it. */
  arch: string | undefined;
}

export class LibvirtHost {
  readonly #config: LibvirtConfig;
  readonly #virsh: Virsh;
  readonly #description: string;
  #emulation: Promise<Emulation> | undefined;
  #template: { found: Template; at: number } | undefined;

  constructor(config: LibvirtConfig, virsh: Virsh, description: string) {
    this.#config = config;
    this.#virsh = virsh;
    this.#description = description;
  }

  /** What machines are made of, as far as it can be looked at without making one. @throws what is wrong */
  async examine(signal: AbortSignal): Promise<void> {
    const { bridge, network, storagePool } = this.#config;
    await this.template(signal);
    await this.#virsh.ask([["vol-list", storagePool]], { signal });
    if (bridge !== undefined) return;
    const [about = ""] = await this.#virsh.ask([["net-info", network]], { signal });
    if (/^Active:\s+yes$/m.test(about)) return;
    throw new FleetingdError(
      "INVALID_CONFIG",
      `the network ${network} of ${this.#description} is not active`,
      {
        hint: "Start it and let it start with the host: `virsh net-start` and `virsh net-autostart`.",
      },
    );
  }

  /** How domains are run; asked once. */
  emulation(signal: AbortSignal): Promise<Emulation> {
    this.#emulation ??= this.#readEmulation();
    this.#emulation.catch(() => {
      this.#emulation = undefined;
    });
    return abortable(this.#emulation, signal, "cancelled while libvirt was asked for its host");
  }

  async template(signal: AbortSignal): Promise<Template> {
    const { image, storagePool } = this.#config;
    if (this.#template !== undefined && performance.now() - this.#template.at < TEMPLATE_AGE_MS)
      return this.#template.found;
    const inPool = image.startsWith("/") ? [] : ["--pool", storagePool];
    const [xml = ""] = await this.#virsh.ask([["vol-dumpxml", ...inPool, image]], { signal });
    const found = readTemplate(xml, image);
    this.#template = { found, at: performance.now() };
    return found;
  }

  /** It may have been removed, or made anew. */
  forgetTemplate(): void {
    this.#template = undefined;
  }

  async #readEmulation(): Promise<Emulation> {
    const { domainType } = this.#config;
    const capabilitiesOf = async (type: Emulation["domainType"]): Promise<Emulation> => {
      const command = ["domcapabilities", "--virttype", type];
      const [xml = ""] = await this.#virsh.ask([command], { signal: undefined });
      return { domainType: type, arch: readArchitecture(xml) };
    };
    if (domainType !== "auto") return capabilitiesOf(domainType);
    try {
      return await capabilitiesOf("kvm");
    } catch (error) {
      if (error instanceof FleetingdError && error.code === "INVALID_CONFIG") return capabilitiesOf("qemu");
      throw error;
    }
  }
}
