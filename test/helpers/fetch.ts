/**
 * Gets everything that tests need from the network: they themselves run in namespaces that have none. Part of
 * `scripts/setup test`; a second run finds everything there.
 */
import { mkdir } from "node:fs/promises";
import { fetchBaseImage } from "../../src/daemon/base-images.ts";
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
say("base image");
await fetchBaseImage(
  { type: "debian-packages", suite: undefined, mirrors: undefined, packages: [] },
  { diskDirectory: IMAGES, signal, logger, onProgress: ({ step }) => say(`  ${step}`) },
);
say("tiny guest");
await prepareTinyGuest();
say("Incus server");
await prepareIncusServer();
say("libvirt daemon");
await prepareLibvirtServer();
say("Debian programs");
await prepareDebianPrograms();
say("roots of distributions, and the package's Node");
await prepareFreshRoots();
say("promtool");
await preparePromtool();
say("OpenStack");
await installOpenStack();
say("Go modules");
await buildGoTests("provisioning");
await buildGoTests("taskscaler");
await buildGoTests("vcd-client");
await buildStandInVm();
