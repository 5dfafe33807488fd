/**
 * Gets everything that tests need from the network: they themselves run in namespaces that have none. Part of
 * `scripts/setup test`; a second run finds everything there.
 */
import { mkdir } from "node:fs/promises";
import { fetchBaseImage } from "../../src/daemon/base-images.ts";
import { describeError } from "../../src/errors.ts";
import { createLogger } from "../../src/log.ts";
import { IMAGES } from "./daemon.ts";
import { prepareDebianPrograms } from "./debian-programs.ts";
import { prepareFreshRoots } from "./fresh-roots.ts";
import { buildGoTests } from "./go-tests.ts";
import { prepareIncusServer } from "./incus-server.ts";
import { prepareLibvirtServer } from "./libvirt-server/install.ts";
import { installOpenStack } from "./openstack/install.ts";
import { preparePromtool } from "./promtool.ts";
import { buildStandInVm } from "./stand-in-vm.ts";
import { prepareTinyGuest } from "./tiny-guest.ts";

await mkdir(IMAGES, { recursive: true });
const logger = createLogger({ format: "text", level: "warn" });
const signal = new AbortController().signal;
const say = (step: string): void => void process.stdout.write(`  ${step}\n`);
const baseImage = { type: "debian-packages", suite: undefined, mirrors: undefined, packages: [] } as const;
/** What takes longest first. */
const THINGS: readonly (readonly [name: string, prepare: () => Promise<unknown>])[] = [
  ["roots of distributions, and the package's Node", prepareFreshRoots],
  [
    "base image",
    () => fetchBaseImage(baseImage, { diskDirectory: IMAGES, signal, logger, onProgress: () => undefined }),
  ],
  ["Debian programs", prepareDebianPrograms],
  ["OpenStack", installOpenStack],
  ["libvirt daemon", prepareLibvirtServer],
  ["Incus server", prepareIncusServer],
  ["Go modules", buildGoModules],
  ["tiny guest", prepareTinyGuest],
  ["promtool", preparePromtool],
];
/** Most of it waits for a server, and none of it uses more than one processor. */
const AT_ONCE = 3;

const queue = [...THINGS];
const problems: unknown[] = [];
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [name, prepare] = next;
      // The others go on: what is half made would stay behind.
      await prepare().then(
        () => say(name),
        (error: unknown) => problems.push(error),
      );
    }
  }),
);
if (problems.length > 0) throw new AggregateError(problems, problems.map(describeError).join("\n"));

async function buildGoModules(): Promise<void> {
  for (const module of ["provisioning", "taskscaler", "vcd-client"] as const) await buildGoTests(module);
  await buildStandInVm();
}
