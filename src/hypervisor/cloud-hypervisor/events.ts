/** What Cloud Hypervisor tells of the guest without being asked: in its file of events, and in its log. */
import { join } from "node:path";
import * as z from "zod";
import type { Logger } from "../../log.ts";
import { HYPERVISOR_LOG, type VmExit } from "../driver.ts";
import { followFile } from "../follow.ts";

export interface EventWatcher {
  readonly diskFailed: Promise<string>;
  /** Adds to the report of the VM's end what only the events told. */
  complete(exit: VmExit): Promise<VmExit>;
  close(): void;
}

const eventSchema = z.object({ source: z.string(), event: z.string() });
/** It goes on when a disk fails, and warns. */
const DISK_FAILURE = /Request failed: .*message: "([^"]+)"/;
const LARGEST_EVENT_CHARACTERS = 64 * 1024;

/** @param onPanic the guest's kernel panicked, and the VMM goes on */
export function watchEvents(
  vm: { directory: string; eventsPath: string },
  log: Logger,
  onPanic: () => void,
): EventWatcher {
  let hasPanicked = false;
  let failDisk: ((reason: string) => void) | undefined;
  const diskFailed = new Promise<string>((resolve) => {
    failDisk = resolve;
  });
  const onEvent = ({ source, event }: z.output<typeof eventSchema>): void => {
    if (source === "vm" && event === "rebooting") log.debug("the guest rebooted");
    if (source !== "guest" || event !== "panic" || hasPanicked) return;
    hasPanicked = true;
    onPanic();
  };
  const events = followFile(vm.eventsPath, eventReader(onEvent), log);
  const output = followFile(
    join(vm.directory, HYPERVISOR_LOG),
    (text) => {
      const reason = DISK_FAILURE.exec(text)?.[1];
      // One of many: a disk that fails once mostly goes on failing.
      if (reason === undefined || failDisk === undefined) return;
      log.error("a disk of the VM failed (is the host's disk full?)", { reason });
      failDisk(reason);
      failDisk = undefined;
    },
    log,
  );
  return {
    diskFailed,
    async complete(exit) {
      await events.catchUp();
      if (!hasPanicked) return exit;
      const note = "the guest's kernel panicked";
      log.warn(note);
      return { ...exit, lastOutput: [exit.lastOutput, note].filter((text) => text !== "").join("\n") };
    },
    close() {
      events.close();
      output.close();
    },
  };
}

/** Events are JSON objects over several lines, with an empty line after each. */
export function eventReader(onEvent: (event: z.output<typeof eventSchema>) => void): (text: string) => void {
  let buffered = "";
  return (text) => {
    const pieces = (buffered + text).split("\n\n");
    buffered = (pieces.pop() ?? "").slice(-LARGEST_EVENT_CHARACTERS);
    for (const piece of pieces) {
      const parsed = eventSchema.safeParse(parseEvent(piece));
      if (parsed.success) onEvent(parsed.data);
    }
  };
}

function parseEvent(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // A piece of one, from the time before the file was begun anew.
    return undefined;
  }
}
