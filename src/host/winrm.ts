/** Windows Remote Management: whether it answers. Logging in needs NTLM, which is the runner's. */

import { FleetingdError, messageOf } from "../errors.ts";
import { openHttp } from "./http.ts";
import { sleep } from "./wait.ts";

export interface WinRmTarget {
  address: string;
  port: number;
  protocol: string;
}

const RETRY_MS = 1_000;
const SILENCE_MS = 5_000;
/** What it says to somebody who has not logged in, or asks in another way than it likes. */
const ANSWERS = [401, 404, 405, 411];

/** @throws HttpError, or FleetingdError CANCELLED */
export async function askWinRm({ address, port, protocol }: WinRmTarget, signal: AbortSignal): Promise<void> {
  const url = `${protocol === "winrm" ? "http" : "https"}://${address}:${port}/wsman`;
  const { request } = await openHttp(url, {
    signal,
    silenceMs: SILENCE_MS,
    acceptedStatus: ANSWERS,
    // Its certificate is its own, as an SSH server's key is.
    insecure: true,
  });
  request.destroy();
}

/**
 * Tries until it answers.
 * @throws FleetingdError TIMEOUT with the last reason, or CANCELLED by the signal
 */
export async function waitForWinRm(
  target: WinRmTarget,
  { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await askWinRm(target, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      if (performance.now() >= deadline) {
        const where = `${target.address}:${target.port}`;
        throw new FleetingdError(
          "TIMEOUT",
          `no WinRM at ${where} within ${timeoutMs / 1000} s: ${messageOf(error)}`,
        );
      }
    }
    await sleep(RETRY_MS, signal);
  }
}
