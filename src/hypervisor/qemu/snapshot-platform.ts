/** What a snapshot of QEMU's depends on besides its spec. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Accelerator } from "../accelerator.ts";
import type { QemuBinary } from "./platform.ts";

/** What of the processor a guest with KVM sees of its host's. */
const SEEN_OF_PROCESSOR =
  /^(?:vendor_id|cpu family|model|stepping|flags|CPU implementer|CPU part|CPU variant|CPU revision|Features)\s*:.*$/gm;

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

async function processorHash(cpuinfoPath: string): Promise<string> {
  const lines = (await readFile(cpuinfoPath, "utf8")).match(SEEN_OF_PROCESSOR) ?? [];
  return createHash("sha256")
    .update([...new Set(lines)].sort().join("\n"))
    .digest("hex")
    .slice(0, 16);
}
