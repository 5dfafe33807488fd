/** `fleetingd serve`: the daemon in the foreground, until a signal ends it. */
import { loadConfig } from "../config/load.ts";
import type { DaemonConfig } from "../config/types.ts";
import { type Daemon, startDaemon } from "../daemon/daemon.ts";
import { createLogHistory } from "../daemon/history.ts";
import { describeError } from "../errors.ts";
import { onSignals } from "../host/interrupt.ts";
import { notifyReload, notifySystemd, startWatchdog } from "../host/notify.ts";
import { createLogger, type Logger } from "../log.ts";
import { type CliCommand, EXIT, type ServeOptions } from "./context.ts";
import { requireRoot } from "./root.ts";

export const serve: CliCommand<ServeOptions> = async (options, { version }) => {
  requireRoot(
    "the daemon makes network devices and starts VMs",
    "Start it by systemd (`systemctl start fleetingd`), or with sudo.",
  );
  const { config: file, notes } = await loadConfig(options.config);
  const socketPath = options.socket ?? file.daemon.socketPath;
  const config = { ...file, daemon: { ...file.daemon, socketPath } };
  const lines = createLogHistory();
  const logger = createLogger({
    format: logFormat(config.daemon),
    level: config.daemon.logLevel,
    onEntry: (entry) => lines.add(entry),
  });
  for (const note of notes) logger.info(note);
  const stopped = stopSignal(logger);
  const daemon = await startDaemon(config, version, logger, lines);
  await notifySystemd("READY=1");
  const stopWatchdog = startWatchdog(logger, () => daemon.hang);
  let reloading = Promise.resolve();
  const reload = (): void => {
    reloading = reloading.then(() => notifyReload(logger, () => reloadConfig(daemon, options, logger)));
  };
  process.on("SIGHUP", reload);
  await stopped;
  process.removeListener("SIGHUP", reload);
  await reloading;
  stopWatchdog();
  await notifySystemd("STOPPING=1");
  await daemon.stop({ removeVms: options.ephemeral });
  return EXIT.ok;
};

/** What `systemctl reload` asks for; a configuration with an error changes nothing. */
async function reloadConfig(daemon: Daemon, options: ServeOptions, logger: Logger): Promise<void> {
  try {
    const { config } = await loadConfig(options.config);
    const socketPath = options.socket ?? config.daemon.socketPath;
    const notes = await daemon.reload({ ...config, daemon: { ...config.daemon, socketPath } });
    for (const note of notes) logger.warn(note);
    logger.info("the configuration was read again");
  } catch (error) {
    logger.error("the configuration was not taken over, so the earlier one holds", {
      error: describeError(error),
    });
  }
}

function logFormat(config: DaemonConfig): "text" | "json" | "journald" {
  if (config.logFormat !== "auto") return config.logFormat;
  // systemd sets it when standard error is connected to its journal.
  return process.env["JOURNAL_STREAM"] === undefined ? "text" : "journald";
}

/** Resolves at the first SIGTERM or SIGINT; a second one does not wait for what the first one has begun. */
function stopSignal(logger: Logger): Promise<void> {
  return new Promise((resolve) => {
    onSignals(["SIGTERM", "SIGINT"], (signal) => {
      logger.info("stopping", { signal });
      resolve();
    });
  });
}
