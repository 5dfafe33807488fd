/** What a guest with KVM sees of the host's processor: a snapshot is of no use where it is another one. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";

/** What of the processor a guest with KVM sees of its host's. */
const SEEN_OF_PROCESSOR =
  /^(?:vendor_id|cpu family|model|stepping|flags|CPU implementer|CPU part|CPU variant|CPU revision|Features)\s*:.*$/gm;

/** The same where a guest finds the same processor. */
export async function processorHash(cpuinfoPath = "/proc/cpuinfo"): Promise<string> {
  const lines = (await readFile(cpuinfoPath, "utf8")).match(SEEN_OF_PROCESSOR) ?? [];
  return createHash("sha256")
    .update([...new Set(lines)].sort().join("\n"))
    .digest("hex")
    .slice(0, 16);
}
