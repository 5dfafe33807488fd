/** Runs `ip`: batches of commands, and lists read as JSON. */
import * as z from "zod";
import { FleetingdError, messageOf } from "../errors.ts";
import { run } from "../host/run.ts";

const TIMEOUT_MS = 20_000;

/**
 * Runs `lines` as one `ip -batch`; it stops at the first that fails, and those before it stay done.
 * @throws FleetingdError MISSING_PROGRAM, PERMISSION, COMMAND_FAILED or TIMEOUT
 */
export async function ipBatch(lines: readonly string[]): Promise<void> {
  try {
    await run("ip", ["-batch", "-"], { input: `${lines.join("\n")}\n`, timeoutMs: TIMEOUT_MS });
  } catch (error) {
    throw explained(error);
  }
}

/**
 * What `ip -j` lists for `args`, checked against `shape`; empty if there is no such device.
 * @throws FleetingdError COMMAND_FAILED, or INTERNAL if the answer has another shape
 */
export async function ipList<T>(args: readonly string[], shape: z.ZodType<T>): Promise<T[]> {
  const { exitCode, stdout, stderr } = await run("ip", ["-j", ...args], {
    timeoutMs: TIMEOUT_MS,
    acceptedExitCodes: [0, 1],
  });
  if (exitCode === 1) {
    if (/does not exist|Cannot find device/.test(stderr)) return [];
    throw new FleetingdError("COMMAND_FAILED", `ip ${args.join(" ")} failed: ${stderr.trim()}`);
  }
  try {
    const items = z.array(z.unknown()).parse(JSON.parse(stdout.trim() === "" ? "[]" : stdout));
    // With a filter, `ip -j` prints an empty object for each device that the filter leaves out.
    return items.filter((item) => !EMPTY.safeParse(item).success).map((item) => shape.parse(item));
  } catch (error) {
    throw new FleetingdError("INTERNAL", `ip ${args.join(" ")} answered something unexpected`, {
      cause: error,
    });
  }
}

const EMPTY = z.strictObject({});

function explained(error: unknown): unknown {
  const message = messageOf(error);
  if (/Operation not permitted/.test(message)) {
    return new FleetingdError("PERMISSION", "ip was not allowed to change network interfaces", {
      hint: "Run the daemon as root, or with CAP_NET_ADMIN.",
      cause: error,
    });
  }
  if (/\/dev\/net\/tun|^open: /m.test(message)) {
    return new FleetingdError("UNAVAILABLE", "TAP devices can't be made: /dev/net/tun is missing", {
      hint: "Load the kernel module (`modprobe tun`), or give the container the device /dev/net/tun.",
      cause: error,
    });
  }
  return error;
}
