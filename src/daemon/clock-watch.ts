/**
 * Says when somebody sets the host's clock. Nothing waits by it, so nothing else has to be done; but ages and the next renewal
 * of images are by the clock, and would puzzle whoever looks at them.
 */
import type { Logger } from "../log.ts";

const CHECK_MS = 1_000;
/** Less is an ordinary correction. */
const LEAST_JUMP_MS = 60_000;

/** @returns what ends it */
export function startClockWatch(logger: Logger): () => void {
  const offset = (): number => Date.now() - performance.now();
  let last = offset();
  const timer = setInterval(() => {
    const jumpMs = offset() - last;
    if (Math.abs(jumpMs) < LEAST_JUMP_MS) return;
    last += jumpMs;
    const seconds = Math.round(Math.abs(jumpMs) / 1000);
    logger.warn(
      `the host's clock was set ${jumpMs < 0 ? "back" : "forward"} by ${seconds} s; ages of VMs and images are off by that`,
    );
  }, CHECK_MS);
  return () => clearInterval(timer);
}
