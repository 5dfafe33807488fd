/** What QEMU tells of the guest without being asked. */
import type { Logger } from "../../log.ts";
import type { VmExit } from "../driver.ts";
import type { QmpEvent } from "./qmp-message.ts";

export interface EventWatcher {
  onEvent(event: QmpEvent): void;
  /** Adds to the report of the VM's end what only the events told. */
  complete(exit: VmExit): VmExit;
}

/** Logs the events, and remembers a panic for the report of the VM's end. */
export function watchEvents(log: Logger): EventWatcher {
  let hasPanicked = false;
  let hasFailedDisk = false;
  return {
    onEvent(event) {
      if (event.name === "GUEST_PANICKED") hasPanicked = true;
      if (event.name === "RESET") log.debug("the guest rebooted");
      // One of many: a disk that fails once mostly goes on failing.
      if (event.name === "BLOCK_IO_ERROR" && !hasFailedDisk) {
        hasFailedDisk = true;
        log.error("a disk of the VM failed (is the host's disk full?)", {
          reason: String(event.data["reason"]),
        });
      }
    },
    complete(exit) {
      if (!hasPanicked) return exit;
      const note = "the guest's kernel panicked";
      log.warn(note);
      return { ...exit, lastOutput: [exit.lastOutput, note].filter((text) => text !== "").join("\n") };
    },
  };
}
