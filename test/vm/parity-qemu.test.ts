/** The contract of hypervisors, with real VMs. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { detectAccelerator } from "../../src/hypervisor/accelerator.ts";
import { probeVm } from "../../src/hypervisor/probe-vm.ts";
import { createQemuDriver } from "../../src/hypervisor/qemu/driver.ts";
import { silentLogger } from "../../src/log.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { describeParity } from "../helpers/parity.ts";

describeParity({
  title: "QEMU",
  name: "qemu",
  which: "qemu",
  description: /^QEMU \d+\.\d+\S* (with KVM|emulating \(TCG\)), (pc-q35|virt)-\d/,
  socket: "qmp.sock",
  guest: { kind: "real" },
  hasSeccomp: true,
  says: {
    noKernel: [/exit code 1/, /\/nowhere\/second/],
    noDisk: [/absent\.raw/],
    wrongFormat: /not in qcow2 format/,
    tapInUse: /busy-qemu.*busy/s,
    memory: /memory/i,
  },
  create: (startTimeoutMs) =>
    createQemuDriver({ logger: silentLogger, ...(startTimeoutMs === undefined ? {} : { startTimeoutMs }) }),
});

test("KVM is chosen exactly where a VM really starts with it", { skip: needsNamespace() }, async () => {
  await probeVm("tcg");
  const works = await probeVm("kvm").then(
    () => true,
    () => false,
  );
  const { kind, reason } = await detectAccelerator({ logger: silentLogger });
  assert.ok(kind === "tcg" || works, reason);
  // With a processor that claims to be able, only the device and the VM itself are left to tell.
  const folder = await mkdtemp(join(tmpdir(), "accelerator-"));
  const cpuinfoPath = join(folder, "cpuinfo");
  await writeFile(cpuinfoPath, "flags\t: vmx\n");
  const claimed = await detectAccelerator({ logger: silentLogger, cpuinfoPath });
  assert.equal(claimed.kind, works ? "kvm" : "tcg", claimed.reason);
  await rm(folder, { recursive: true });
});
