/** What is waited for in a VM that is being made, until nobody wants it any more. */
import type { RunningVm } from "../../hypervisor/driver.ts";

/**
 * Settles like `work`. If the signal is aborted meanwhile the VM ends, and with it all that waits for it: for its guest's
 * channel, for its hypervisor's answers.
 */
export async function whileWanted<T>(vm: RunningVm, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  let ending: Promise<void> | undefined;
  const end = (): void => {
    // Whoever cleans up after it stops it once more, and is told of what stands against that.
    ending = vm.stop({ graceMs: 0 }).catch(() => undefined);
  };
  signal.addEventListener("abort", end, { once: true });
  if (signal.aborted) end();
  try {
    signal.throwIfAborted();
    return await work();
  } finally {
    signal.removeEventListener("abort", end);
    await ending;
  }
}
