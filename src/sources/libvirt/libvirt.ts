/**
 * A libvirt daemon as a cloud: each machine is a transient domain on an overlay of a template's disk, with a NoCloud seed beside it.
 *
 * A domain is looked up by its UUID, which follows from whose it is, and volumes by names that do; so nothing need be remembered
 * to find them again, and nothing else is touched. A transient domain is gone once it stops.
 */
import { createHash } from "node:crypto";
import { mkdtemp, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeSeed } from "../../cloudinit/iso.ts";
import { addCloudConfig, userWithKey } from "../../cloudinit/user-data.ts";
import { FleetingdError } from "../../errors.ts";
import { removeTree } from "../../host/files.ts";
import { abortable, type GrowingPauses, lookUntil } from "../../host/wait.ts";
import type {
  Cloud,
  ListedMachine,
  MachineAddress,
  MachineRequest,
  Owner,
  StoredMachine,
} from "../remote/cloud.ts";
import { readAddress, readLines, readVolumes, sizeInBytes, type Template } from "./answers.ts";
import type { AddressSource, LibvirtConfig } from "./config.ts";
import { type DomainTemplate, domainName, domainValues, loadDomainTemplate } from "./domain-xml.ts";
import { isAbsent } from "./errors.ts";
import { type Emulation, LibvirtHost } from "./host.ts";
import {
  instanceOfVolume,
  macAddressOf,
  readTag,
  TAG_NAMESPACE,
  type Tag,
  uuidOf,
  volumesOf,
} from "./tags.ts";
import { type Command, Virsh } from "./virsh.ts";

const ADDRESS_PAUSES: GrowingPauses = { firstMs: 500, longestMs: 2_000, factor: 1.5 };
const ADDRESS_SOURCES: readonly AddressSource[] = ["lease", "agent", "arp"];
/** How many domains' tags are asked for at a time. */
const TAGS_AT_ONCE = 50;
/** How long a list of volumes serves: virsh asks the daemon for the path of each, whoever's it is. */
const VOLUMES_AGE_MS = 60_000;
/** The start of a domain may have to wait for those of others. */
const CREATE_TIMEOUTS = 4;

/** No daemon is asked yet. @throws FleetingdError INVALID_CONFIG if the domain template is of no use */
export async function openLibvirt(config: LibvirtConfig): Promise<Libvirt> {
  return new Libvirt(config, await loadDomainTemplate(config));
}

export class Libvirt implements Cloud {
  readonly description: string;
  readonly fingerprint: string;
  readonly #config: LibvirtConfig;
  readonly #domain: DomainTemplate;
  readonly #virsh: Virsh;
  readonly #host: LibvirtHost;
  /** Creations that the daemon works at: until their end it deletes nothing. */
  readonly #underway = new Map<string, Promise<unknown>>();
  /** Of every domain that there is, by its UUID; undefined: it is not ours. */
  readonly #tags = new Map<string, Tag | undefined>();
  /** Names of all in the storage pool, until a time of `performance.now()`. */
  #volumes: { names: Set<string>; until: number } | undefined;
  /** How many machines have been removed. */
  #removals = 0;

  constructor(config: LibvirtConfig, domain: DomainTemplate) {
    this.#config = config;
    this.#domain = domain;
    const { uri, requestTimeoutMs } = config;
    this.description = `the libvirt daemon ${uri}`;
    this.#virsh = new Virsh({ uri, requestTimeoutMs, description: this.description });
    this.#host = new LibvirtHost(config, this.#virsh, this.description);
    this.fingerprint = fingerprintOf(config, domain);
  }

  async create(request: MachineRequest): Promise<MachineAddress> {
    const { id, owner, signal } = request;
    const tag: Tag = { ...owner, instance: id };
    const { storagePool } = this.#config;
    const { arch, domainType } = await this.#host.emulation(signal);
    const template = await this.#host.template(signal);
    await request.save({ storagePool });
    signal.throwIfAborted();
    request.phase("create");
    // Not ended by the signal: whoever deletes must know what the daemon is at.
    const creation = this.#make(tag, request.authorizedKey, template, domainType);
    this.#underway.set(id, creation);
    await abortable(creation, signal, "cancelled while libvirt made a domain");
    this.#underway.delete(id);
    for (const volume of Object.values(volumesOf(tag))) this.#volumes?.names.add(volume);
    request.phase("address");
    const address = await this.#address(tag, signal);
    return { address, ...(arch === undefined ? {} : { arch }) };
  }

  async remove({ id, owner, data }: StoredMachine, signal: AbortSignal): Promise<void> {
    await this.#underway.get(id)?.catch(() => undefined);
    this.#underway.delete(id);
    const tag: Tag = { ...owner, instance: id };
    const uuid = uuidOf(tag);
    // Somebody may have made it a persistent one.
    const end: Command[] = [
      ["destroy", uuid],
      ["undefine", uuid, "--nvram"],
    ];
    await this.#virsh.ask(end, { signal, ignore: isAbsent });
    const pool = typeof data["storagePool"] === "string" ? data["storagePool"] : this.#config.storagePool;
    const names = Object.values(volumesOf(tag));
    const volumes = names.map((volume) => ["vol-delete", "--pool", pool, volume]);
    await this.#virsh.ask(volumes, { signal, ignore: isAbsent });
    this.#removals++;
    for (const volume of names) this.#volumes?.names.delete(volume);
  }

  async list(owner: Owner, signal: AbortSignal): Promise<readonly ListedMachine[]> {
    const questions: Command[] = [
      ["list", "--all", "--uuid"],
      ["list", "--uuid", "--state-running", "--state-paused"],
    ];
    const now = performance.now();
    const known = now < (this.#volumes?.until ?? 0) ? this.#volumes : undefined;
    const removals = this.#removals;
    if (known === undefined) questions.push(["vol-list", this.#config.storagePool]);
    const [all = "", living = "", listed = ""] = await this.#virsh.ask(questions, { signal });
    const volumes = known ?? { names: new Set(readVolumes(listed)), until: now + VOLUMES_AGE_MS };
    // What was removed while they were listed may still be among them.
    if (known === undefined && removals === this.#removals) this.#volumes = volumes;
    const uuids = readLines(all);
    await this.#readTags(uuids, signal);
    const alive = new Set(readLines(living));
    const machines = new Map<string, ListedMachine>();
    for (const uuid of uuids) {
      const tag = this.#tags.get(uuid);
      if (tag === undefined || tag.daemon !== owner.daemon || tag.pool !== owner.pool) continue;
      const id = tag.instance;
      machines.set(id, alive.has(uuid) ? { id, state: "running" } : { id, state: "gone", ...STOPPED });
    }
    for (const volume of volumes.names) {
      const id = instanceOfVolume(volume, owner);
      if (id !== undefined && !machines.has(id)) machines.set(id, { id, state: "gone", ...VANISHED });
    }
    return [...machines.values()];
  }

  async examine(signal: AbortSignal): Promise<void> {
    await this.#host.examine(signal);
  }

  async #make(
    tag: Tag,
    authorizedKey: string | undefined,
    template: Template,
    domainType: Emulation["domainType"],
  ): Promise<void> {
    const { storagePool, diskSize, requestTimeoutMs } = this.#config;
    const scratch = await mkdtemp(join(tmpdir(), "fleetingd-libvirt-"));
    try {
      const [seedPath, xmlPath] = [join(scratch, "seed.iso"), join(scratch, "domain.xml")];
      await writeSeed(seedPath, this.#seed(tag.instance, authorizedKey));
      await writeFile(xmlPath, this.#domain.render(domainValues(this.#config, tag, domainType)), {
        mode: 0o600,
      });
      const { disk, seed } = volumesOf(tag);
      const wanted = diskSize === undefined ? 0 : sizeInBytes(diskSize);
      const diskBytes = Math.max(template.capacityBytes, wanted);
      const { size: seedBytes } = await stat(seedPath);
      const backing = ["--backing-vol", template.path, "--backing-vol-format", template.format];
      const commands: Command[] = [
        ["vol-create-as", storagePool, disk, `${diskBytes}`, "--format", "qcow2", ...backing],
        ["vol-create-as", storagePool, seed, `${seedBytes}`, "--format", "raw"],
        ["vol-upload", "--pool", storagePool, seed, seedPath],
        ["create", xmlPath],
      ];
      const timeoutMs = CREATE_TIMEOUTS * requestTimeoutMs;
      await this.#virsh.ask(commands, { signal: undefined, timeoutMs });
    } catch (error) {
      this.#host.forgetTemplate();
      throw error;
    } finally {
      await removeTree(scratch);
    }
  }

  #seed(id: string, authorizedKey: string | undefined): Readonly<Record<string, string>> {
    const { username, userData } = this.#config;
    const own = authorizedKey === undefined ? "#cloud-config\n{}\n" : userWithKey(username, authorizedKey);
    const hostname = domainName(this.#config, id);
    return {
      "user-data": userData === undefined ? own : addCloudConfig(userData, own),
      "meta-data": `instance-id: ${JSON.stringify(id)}\nlocal-hostname: ${JSON.stringify(hostname)}\n`,
    };
  }

  async #address(tag: Tag, signal: AbortSignal): Promise<string> {
    const { addressFrom } = this.#config;
    const sources = addressFrom === "auto" ? ADDRESS_SOURCES : [addressFrom];
    const uuid = uuidOf(tag);
    const questions = sources.map((source) => ["domifaddr", uuid, "--source", source, "--full"]);
    let trouble: unknown;
    const look = async (): Promise<string | undefined> => {
      try {
        // An agent that does not answer yet is no failure; that there is no domain any more is one.
        const answers = await this.#virsh.ask(questions, {
          signal,
          ignore: ({ step }) => ASKING.test(step ?? ""),
        });
        const addresses = answers.map((answer) => readAddress(answer, macAddressOf(tag)));
        return addresses.find((address) => address !== undefined);
      } catch (error) {
        if (signal.aborted) throw trouble ?? error;
        const code = error instanceof FleetingdError ? error.code : undefined;
        if (code === "NOT_FOUND") throw this.#ended(tag, error);
        // The daemon may be restarted meanwhile: domains live on.
        if (code !== "UNAVAILABLE") throw error;
        trouble = error;
        return undefined;
      }
    };
    return lookUntil(look, ADDRESS_PAUSES, signal);
  }

  #ended({ instance }: Tag, cause: unknown): FleetingdError {
    const name = domainName(this.#config, instance);
    return new FleetingdError(
      "HYPERVISOR_FAILED",
      `the domain ${name} at ${this.description} ended before it had an address`,
      { hint: `Its host has /var/log/libvirt/qemu/${name}.log, which may say why.`, cause },
    );
  }

  /** Fills `#tags`: a domain's never changes. */
  async #readTags(uuids: readonly string[], signal: AbortSignal): Promise<void> {
    const there = new Set(uuids);
    for (const uuid of this.#tags.keys()) if (!there.has(uuid)) this.#tags.delete(uuid);
    const unknown = uuids.filter((uuid) => !this.#tags.has(uuid));
    for (let from = 0; from < unknown.length; from += TAGS_AT_ONCE) {
      const some = unknown.slice(from, from + TAGS_AT_ONCE);
      const questions = some.map((uuid) => ["metadata", uuid, "--uri", TAG_NAMESPACE]);
      const answers = await this.#virsh.ask(questions, { signal, ignore: isAbsent });
      some.forEach((uuid, index) => {
        const tag = readTag(answers[index] ?? "");
        this.#tags.set(uuid, tag !== undefined && uuidOf(tag) === uuid ? tag : undefined);
      });
    }
  }
}

const ASKING = /^Failed to query for interfaces addresses/;
const STOPPED = { reason: "libvirt says that its domain does not run" };
const VANISHED = { reason: "libvirt has its disk, but not its domain: that was stopped or destroyed" };

/** Of all that machines are made of: what only changes how they are asked for is left out. */
function fingerprintOf(config: LibvirtConfig, domain: DomainTemplate): string {
  const { image, diskSize, userData, username } = config;
  const sample = domainValues(config, { daemon: "", pool: "", instance: "" }, "kvm");
  const made = [image, diskSize, userData, username, domain.source, sample];
  return createHash("sha256").update(JSON.stringify(made)).digest("hex").slice(0, 12);
}
