/**
 * What a test needs of the machine. Each answer fits node:test's `skip` option: false if it is there, otherwise the
 * reason. CI has everything but KVM, so there a missing thing fails the test instead.
 */
import { access, constants } from "node:fs/promises";
import { findProgram } from "../../src/host/files.ts";

/** `false`: run the test; a text: the reason to skip it. */
export type SkipReason = string | false;

/** Set by scripts/in-namespace for everything that it runs. */
const NAMESPACE_VARIABLE = "FLEETINGD_TEST_NAMESPACE";

/** Whether this process runs in network, pid and mount namespaces of the suite's own. */
export function inTestNamespace(): boolean {
  return process.env[NAMESPACE_VARIABLE] === "1";
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

export function needsRoot(): SkipReason {
  return missing(!isRoot() && "no root: run it with sudo");
}

/** Anything that makes network devices, rules or mounts: never in the host's own namespaces. */
export function needsNamespace(): SkipReason {
  return missing(
    !(isRoot() && inTestNamespace()) && "no namespace of its own: run it with scripts/test system, or vm",
  );
}

/** All of `programs` on PATH. */
export async function needsPrograms(...programs: readonly string[]): Promise<SkipReason> {
  const found = await Promise.all(programs.map((program) => findProgram(program)));
  const absent = programs.filter((_, index) => found[index] === undefined);
  return missing(absent.length > 0 && `no ${absent.join(", no ")}: run scripts/setup test`);
}

/** Hardware that not even CI has. */
export async function needsKvm(): Promise<SkipReason> {
  try {
    await access("/dev/kvm", constants.R_OK | constants.W_OK);
    return false;
  } catch {
    // Whatever the reason, it can't be used.
    return "no KVM on this machine";
  }
}

function missing(reason: SkipReason): SkipReason {
  if (reason !== false && process.env["CI"] === "true") throw new Error(`CI must have this: ${reason}`);
  return reason;
}
