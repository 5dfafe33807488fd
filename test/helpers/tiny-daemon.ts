/**
 * Stands for a daemon that is killed: starts a VM, prints where it is, and waits for its end.
 * Its argument is a VmSpec as JSON.
 */

import { createQemuDriver } from "../../src/hypervisor/qemu/driver.ts";
import { silentLogger } from "../../src/log.ts";

const driver = await createQemuDriver({
  logger: silentLogger,
  accelerator: { kind: "tcg", reason: "chosen by the test" },
});
const vm = await driver.start(JSON.parse(process.argv[2] ?? ""));
process.stdout.write(`${JSON.stringify(vm.process)}\n`);
setInterval(() => undefined, 60_000);
