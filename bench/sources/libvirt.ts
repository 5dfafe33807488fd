/** libvirt: the real daemon, whose domains are QEMU processes that boot nothing and have addresses all the same. */
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { readSource } from "../../src/config/source-keys.ts";
import { sleep } from "../../src/host/wait.ts";
import type { LibvirtConfig } from "../../src/sources/libvirt/config.ts";
import { domainValues, loadDomainTemplate } from "../../src/sources/libvirt/domain-xml.ts";
import { openLibvirt } from "../../src/sources/libvirt/libvirt.ts";
import { tagElement, uuidOf, volumesOf } from "../../src/sources/libvirt/tags.ts";
import { type Command, Virsh } from "../../src/sources/libvirt/virsh.ts";
import {
  type LibvirtServer,
  libvirtKeys,
  startLibvirtServer,
  TINY_VOLUME,
} from "../../test/helpers/libvirt-server.ts";
import { countLibvirt, startRelay } from "./counting.ts";
import { type CloudBench, idsOf, inParts, OWNER, TIMEOUT_MS } from "./site.ts";

const MACHINES = 16;
const AT_ONCE = 8;
const POOL = "default";
/** How long libvirt-gitlab-executor waits before each attempt to log in. */
const PAUSE_MS = 2_000;
const SEED_BYTES = 376_832;

export const libvirt: CloudBench = {
  name: "libvirt",
  machines: MACHINES,
  creates: AT_ONCE,
  deletes: AT_ONCE,
  async start() {
    const server = await start();
    const socketPath = join(server.programs, "counted.socket");
    const relay = await startRelay(socketPath, socketOf(server), countLibvirt);
    const config = configOf(server, socketPath);
    return {
      open: () => openLibvirt(config),
      requests: () => relay.count,
      original: (made) => makeAsTheOriginal(server, config, made),
      async stop() {
        await relay.stop();
        await server.remove();
      },
    };
  },
  /** These don't run: a host has not room for so many, and they are listed in the same way. */
  async startWithMany(count) {
    const server = await start();
    const tags = idsOf(count).map((instance) => ({ ...OWNER, instance }));
    const domains = tags.map(
      (
        tag,
      ) => `<domain type="qemu"><name>${tag.instance}</name><uuid>${uuidOf(tag)}</uuid><metadata>${tagElement(tag)}</metadata>
        <memory unit="MiB">16</memory><os><type>hvm</type></os></domain>`,
    );
    const state = join(dirname(server.programs), "state");
    await Promise.all(domains.map((xml, index) => writeFile(join(state, `${index}.xml`), xml)));
    const definitions = domains.map((_, index) => `define /var/lib/libvirt/${index}.xml`);
    await server.inside(`virsh -q '${definitions.join("; ")}' >/dev/null`);
    const volumes = tags.flatMap((tag) => Object.values(volumesOf(tag)));
    await server.inside(
      `cd /var/lib/libvirt/images && touch ${volumes.join(" ")} && virsh -q pool-refresh ${POOL}`,
    );
    return { cloud: await openLibvirt(configOf(server, socketOf(server))), stop: () => server.remove() };
  },
};

async function start(): Promise<LibvirtServer> {
  const server = await startLibvirtServer();
  process.env["PATH"] = `${server.programs}:${process.env["PATH"]}`;
  return server;
}

function socketOf({ uri }: LibvirtServer): string {
  return new URL(uri).searchParams.get("socket") ?? "";
}

function configOf(server: LibvirtServer, socketPath: string): LibvirtConfig {
  const uri = `qemu+unix:///system?socket=${socketPath}`;
  const result = readSource({ ...libvirtKeys(server), domain_template: server.bareTemplate, uri });
  if ("source" in result) return result.source as LibvirtConfig;
  throw new Error(JSON.stringify(result.findings));
}

/**
 * As libvirt-gitlab-executor makes them: an overlay, virt-install with a seed, then a login, tried every two seconds. What virt-install
 * asks to find out what the host is like is left out.
 */
async function makeAsTheOriginal(
  server: LibvirtServer,
  config: LibvirtConfig,
  made: () => void,
): Promise<void> {
  const { uri } = config;
  const virsh = new Virsh({ uri, description: "libvirt", requestTimeoutMs: TIMEOUT_MS });
  const ask = (...commands: Command[]) => virsh.ask(commands, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  const template = await loadDomainTemplate(config);
  const seedPath = join(server.programs, "seed");
  await writeFile(seedPath, Buffer.alloc(SEED_BYTES));
  const names = Array.from({ length: MACHINES }, (_, index) => `original-${index}`);
  await inParts(names, AT_ONCE, async (name) => {
    await ask(["vol-dumpxml", "--pool", POOL, TINY_VOLUME]);
    const backing = ["--backing-vol", TINY_VOLUME, "--backing-vol-format", "qcow2"];
    await ask(["vol-create-as", POOL, name, "50GiB", "--format", "qcow2", ...backing]);
    const seed = `${name}.iso`;
    const values = {
      ...domainValues(config, { ...OWNER, instance: name }, "qemu"),
      disk_volume: name,
      seed_volume: seed,
    };
    const xmlPath = join(server.programs, `${name}.xml`);
    await writeFile(xmlPath, template.render(values));
    await ask(
      ["vol-create-as", POOL, seed, `${SEED_BYTES}`, "--format", "raw"],
      ["vol-upload", "--pool", POOL, seed, seedPath],
      ["create", xmlPath],
      ["vol-delete", "--pool", POOL, seed],
    );
    do await sleep(PAUSE_MS);
    while (!/ipv4/.test(await server.inside(`virsh domifaddr ${name}`)));
  });
  made();
  await inParts(
    names,
    AT_ONCE,
    async (name) => void (await ask(["destroy", name], ["vol-delete", "--pool", POOL, name])),
  );
}
