/** What the host says to the guest part over a VM's channel, and hears from it: lines of text. */
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Duplex } from "node:stream";
import { FleetingdError } from "../../errors.ts";
import { withTimeout } from "../../host/wait.ts";
import type { RunningVm } from "../../hypervisor/driver.ts";

export interface GuestChannel {
  /** Sends an identity (see `renderIdentity`) and returns when the guest has become it. */
  become(identity: string, timeoutMs: number): Promise<void>;
  /** Returns when a template has come to rest. */
  untilWaiting(timeoutMs: number): Promise<void>;
  close(): void;
}

const SHOWN_CHARACTERS = 300;

/**
 * @param timeoutMs how long the guest may take to open its end, where it is waited for
 * @throws FleetingdError HYPERVISOR_FAILED, TIMEOUT; so does all of the channel
 */
export async function openGuestChannel(vm: RunningVm, timeoutMs: number): Promise<GuestChannel> {
  const stream: Duplex = await vm.openChannel({ timeoutMs });
  let failure: Error | undefined;
  stream.on("error", (error: Error) => {
    failure = error;
  });
  const lines = createInterface({ input: stream })[Symbol.asyncIterator]();
  const expect = async (wanted: string, timeoutMs: number): Promise<void> => {
    const { value, done } = await withTimeout(
      lines.next(),
      timeoutMs,
      `the guest of ${vm.id} to say "${wanted}"`,
    );
    if (!done && value === wanted) return;
    const said = done ? "closed the channel" : `said "${String(value).slice(0, SHOWN_CHARACTERS)}"`;
    throw new FleetingdError("HYPERVISOR_FAILED", `the guest of ${vm.id} ${said} and not "${wanted}"`, {
      cause: failure,
    });
  };
  return {
    async become(identity, timeoutMs) {
      if (!stream.write(`${identity}end\n`))
        await withTimeout(once(stream, "drain"), timeoutMs, "the channel");
      await expect("done", timeoutMs);
    },
    untilWaiting: (timeoutMs) => expect("waiting", timeoutMs),
    close: () => void stream.destroy(),
  };
}
