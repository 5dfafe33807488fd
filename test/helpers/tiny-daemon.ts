/**
 * Stands for a daemon that is killed: starts a VM, prints where it is, and waits for its end.
 * Its arguments are the hypervisor's name and a VmSpec as JSON.
 */
import { createCloudHypervisorDriver } from "../../src/hypervisor/cloud-hypervisor/driver.ts";
import { createQemuDriver } from "../../src/hypervisor/qemu/driver.ts";
import { silentLogger } from "../../src/log.ts";
import { READERS } from "./hypervisor-fixture.ts";

const [name, spec = ""] = process.argv.slice(2);
const logger = silentLogger;
const accelerator = { kind: "tcg", reason: "chosen by the test" } as const;
const driver = await (name === "qemu"
  ? createQemuDriver({ logger, accelerator })
  : createCloudHypervisorDriver({ logger, readers: READERS }));
const vm = await driver.start(JSON.parse(spec));
process.stdout.write(`${JSON.stringify(vm.process)}\n`);
setInterval(() => undefined, 60_000);
