/** Tells systemd how the service is doing. Node has no datagram sockets for files, so systemd's own program does it. */
import { messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import { run } from "./run.ts";

const NOTIFY_TIMEOUT_MS = 10_000;
/** A late answer or two must not look like a hang. */
const PINGS_PER_TIMEOUT = 3;

/**
 * Sends assignments such as `READY=1`; does nothing where no service manager has started this process.
 * @throws FleetingdError MISSING_PROGRAM, TIMEOUT or COMMAND_FAILED
 */
export async function notifySystemd(...assignments: readonly string[]): Promise<void> {
  if (process.env["NOTIFY_SOCKET"] === undefined) return;
  // Without a barrier: the sender would otherwise wait for an answer that only a real service manager gives.
  await run("systemd-notify", ["--no-block", ...assignments], { timeoutMs: NOTIFY_TIMEOUT_MS });
}

/** Lets `systemctl reload` wait for `reload`, which must not fail; that systemd can't be told is logged. */
export async function notifyReload(logger: Logger, reload: () => Promise<void>): Promise<void> {
  const tell = async (...assignments: readonly string[]): Promise<void> => {
    try {
      await notifySystemd(...assignments);
    } catch (error) {
      logger.warn("systemd could not be told of the reload", { error: messageOf(error) });
    }
  };
  await tell("RELOADING=1", `MONOTONIC_USEC=${process.hrtime.bigint() / 1_000n}`);
  await reload();
  await tell("READY=1");
}

/**
 * Keeps telling systemd that all is well, if the unit has `WatchdogSec=`; when nothing is told, systemd restarts us.
 * @param hang why we seem to hang, or undefined
 * @returns a function that stops it
 */
export function startWatchdog(logger: Logger, hang: () => string | undefined): () => void {
  const timeoutMs = watchdogTimeoutMs(process.env, process.pid);
  if (timeoutMs === undefined) return () => undefined;
  const timer = setInterval(() => {
    const reason = hang();
    if (reason !== undefined) return logger.error("systemd's watchdog is not answered", { reason });
    notifySystemd("WATCHDOG=1").catch((error: unknown) => {
      logger.warn("could not answer systemd's watchdog", { error: messageOf(error) });
    });
  }, timeoutMs / PINGS_PER_TIMEOUT);
  timer.unref();
  return () => clearInterval(timer);
}

/** How long systemd lets `pid` be silent, or undefined if it does not watch that process. */
export function watchdogTimeoutMs(env: NodeJS.ProcessEnv, pid: number): number | undefined {
  const microseconds = Number(env["WATCHDOG_USEC"]);
  if (!(microseconds > 0)) return undefined;
  if (env["WATCHDOG_PID"] !== undefined && Number(env["WATCHDOG_PID"]) !== pid) return undefined;
  return microseconds / 1000;
}
