/** What a snapshot of QEMU's depends on besides its spec. */
import type { Accelerator } from "../accelerator.ts";
import { processorHash } from "../processor.ts";
import type { QemuBinary } from "./platform.ts";

/** One text, the same where a snapshot of the one can be restored by the other. */
export async function snapshotPlatform(
  qemu: QemuBinary,
  { kind }: Pick<Accelerator, "kind">,
  cpuinfoPath = "/proc/cpuinfo",
): Promise<string> {
  const { platform, version, machine } = qemu;
  const model = kind === "kvm" ? platform.kvmCpu : platform.tcgCpu;
  const parts = ["qemu", version, `${machine},${platform.machineOptions}`, kind, model];
  // An emulated processor is the same on every host.
  return kind === "tcg" ? parts.join(" ") : [...parts, await processorHash(cpuinfoPath)].join(" ");
}
