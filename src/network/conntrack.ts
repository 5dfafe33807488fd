/**
 * Connections that a VM leaves behind in the kernel. Answers to them would reach the next VM that gets the address,
 * so they are forgotten with the VM.
 */
import { messageOf } from "../errors.ts";
import { findProgram } from "../host/files.ts";
import { run } from "../host/run.ts";
import type { Logger } from "../log.ts";
import { createBatcher } from "./batch.ts";

const TIMEOUT_MS = 10_000;
const NOTHING_DELETED = 1;
// Each mostly waits for the kernel, and a whole pool may go at once.
const MAX_PROGRAMS_AT_ONCE = 8;

/**
 * A function that forgets the connections that were opened from an address. If the program `conntrack` is missing
 * or fails they only age: addresses are reused as late as possible, so that is no reason to keep a VM's network.
 */
export function createConnectionForgetter(logger: Logger): (address: string) => Promise<void> {
  return createBatcher<string>(async (addresses) => {
    const program = await findProgram("conntrack");
    if (program === undefined) {
      logger.debug("conntrack is not installed, so connections of VMs age by themselves");
      return;
    }
    await Promise.all(addresses.map((address) => forget(program, address, logger)));
  }, MAX_PROGRAMS_AT_ONCE);
}

async function forget(program: string, address: string, logger: Logger): Promise<void> {
  try {
    await run(program, ["-D", "--orig-src", address], {
      timeoutMs: TIMEOUT_MS,
      acceptedExitCodes: [0, NOTHING_DELETED],
    });
  } catch (error) {
    logger.warn("a VM's connections could not be forgotten", { address, reason: messageOf(error) });
  }
}
