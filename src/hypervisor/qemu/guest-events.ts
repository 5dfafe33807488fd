/** What QEMU tells of the guest without being asked. */
import type { Logger } from "../../log.ts";
import type { VmExit } from "../driver.ts";
import type { QmpEvent } from "./qmp-message.ts";

export interface EventWatcher {
  onEvent(event: QmpEvent): void;
  readonly diskFailed: Promise<string>;
  /** Adds to the report of the VM's end what only the events told. */
  complete(exit: VmExit): VmExit;
}

/** Logs the events, and remembers a panic for the report of the VM's end. */
export function watchEvents(log: Logger): EventWatcher {
  let hasPanicked = false;
  let failDisk: ((reason: string) => void) | undefined;
  const diskFailed = new Promise<string>((resolve) => {
    failDisk = resolve;
  });
  return {
    diskFailed,
    onEvent(event) {
      if (event.name === "GUEST_PANICKED") hasPanicked = true;
      if (event.name === "RESET") log.debug("the guest rebooted");
      // One of many: a disk that fails once mostly goes on failing.
      if (event.name === "BLOCK_IO_ERROR" && failDisk !== undefined) {
        const reason = String(event.data["reason"]);
        log.error("a disk of the VM failed (is the host's disk full?)", { reason });
        failDisk(reason);
        failDisk = undefined;
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
