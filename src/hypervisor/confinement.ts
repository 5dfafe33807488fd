/** What a hypervisor's process is stripped of before its program begins. */
import { messageOf } from "../errors.ts";
import { run } from "../host/run.ts";
import type { Logger } from "../log.ts";

/** Words to put before a command, or none. */
export type Confinement = readonly string[];

const TIMEOUT_MS = 10_000;
/** No capabilities, and no way to any: the TAP is opened as its owner, disks as theirs. */
const STRIPPED: Confinement = [
  "setpriv",
  "--no-new-privs",
  "--inh-caps=-all",
  "--ambient-caps=-all",
  "--bounding-set=-all",
  "--",
];

/** How VMs' processes are started on this host; a host where they can't be stripped of anything is told of. */
export async function findConfinement(logger: Logger): Promise<Confinement> {
  const [program = "", ...words] = STRIPPED;
  try {
    await run(program, [...words, "true"], { timeoutMs: TIMEOUT_MS });
    return STRIPPED;
  } catch (error) {
    logger.warn("VMs' processes keep the daemon's capabilities, for they can't be taken from them here", {
      reason: messageOf(error),
      needs: "the program setpriv (util-linux) and CAP_SETPCAP",
    });
    return [];
  }
}
