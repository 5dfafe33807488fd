/** The domain's description, from a template: ours, or one that a person has written. */
import { readFile } from "node:fs/promises";
import Handlebars from "handlebars";
import { FleetingdError, messageOf } from "../../errors.ts";
import { packageFile } from "../../host/package-root.ts";
import type { LibvirtConfig } from "./config.ts";
import { macAddressOf, type Tag, tagElement, uuidOf, volumesOf } from "./tags.ts";

/** What a template may use. Every value is escaped for XML, but for `{{{tag}}}`, which is an element. */
export interface DomainValues {
  readonly name: string;
  readonly uuid: string;
  /** Goes into `<metadata>`. */
  readonly tag: string;
  readonly id: string;
  readonly domain_type: "kvm" | "qemu";
  readonly is_emulated: boolean;
  readonly machine: string;
  readonly vcpus: number;
  readonly memory_mib: number;
  readonly storage_pool: string;
  readonly disk_volume: string;
  readonly seed_volume: string;
  readonly mac_address: string;
  readonly network: string;
  readonly bridge: string | null;
  readonly isolated: boolean;
}

export interface DomainTemplate {
  readonly source: string;
  render(values: DomainValues): string;
}

/** @throws FleetingdError INVALID_CONFIG if it can't be read, or makes no domain that could be found again */
export async function loadDomainTemplate(config: LibvirtConfig): Promise<DomainTemplate> {
  const path = config.domainTemplate ?? (await packageFile("templates", "libvirt", "domain.xml.hbs"));
  const refuse = (problem: string, cause?: unknown): FleetingdError =>
    new FleetingdError("INVALID_CONFIG", `the domain template ${path} ${problem}`, { cause });
  let source: string;
  try {
    source = await readFile(path, "utf8");
  } catch (error) {
    throw refuse("can't be read", error);
  }
  // What Handlebars makes of & < > " ' ` = are references that XML has as well.
  const template = Handlebars.create().compile<DomainValues>(source, { strict: true });
  const render = (values: DomainValues): string => {
    try {
      return template(values);
    } catch (error) {
      throw refuse(`can't be filled in: ${messageOf(error)}`, error);
    }
  };
  const sample = domainValues(config, { daemon: "d", pool: "p", instance: "fl-sample" }, "qemu");
  const text = render(sample);
  const needed = { name: "{{name}}", uuid: "{{uuid}}", tag: "{{{tag}}}" } as const;
  for (const [key, variable] of Object.entries(needed)) {
    const value = sample[key as keyof typeof needed];
    if (!text.includes(value))
      throw refuse(`lacks ${variable}, by which the daemon finds its own domains again`);
  }
  return { source, render };
}

export function domainValues(config: LibvirtConfig, tag: Tag, domainType: "kvm" | "qemu"): DomainValues {
  const volumes = volumesOf(tag);
  return {
    name: domainName(config, tag.instance),
    uuid: uuidOf(tag),
    tag: tagElement(tag),
    id: tag.instance,
    domain_type: domainType,
    is_emulated: domainType === "qemu",
    machine: config.machine,
    vcpus: config.vcpus,
    memory_mib: config.memoryMiB,
    storage_pool: config.storagePool,
    disk_volume: volumes.disk,
    seed_volume: volumes.seed,
    mac_address: macAddressOf(tag),
    network: config.network,
    bridge: config.bridge ?? null,
    isolated: config.isolated,
  };
}

export function domainName({ nameTemplate }: Pick<LibvirtConfig, "nameTemplate">, id: string): string {
  return nameTemplate.replaceAll("$random", id);
}
