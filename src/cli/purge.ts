/** `fleetingd purge`: removes all VMs and whatever else of ours is on this host, while no daemon runs. */
import { loadConfig } from "../config/load.ts";
import { purge as purgeHost } from "../daemon/purge.ts";
import { FleetingdError } from "../errors.ts";
import { createLogger } from "../log.ts";
import { type CliCommand, EXIT, type GlobalOptions } from "./context.ts";
import { requireRoot } from "./root.ts";

export interface PurgeOptions extends GlobalOptions {
  images: boolean;
  yes: boolean;
}

export const purge: CliCommand<PurgeOptions> = async (options, context) => {
  requireRoot("purge stops VMs and removes network devices and rules");
  if (!options.yes) {
    throw new FleetingdError("INVALID_ARGUMENT", "purge deletes every VM, whatever runs in it", {
      hint: "Say so with --yes.",
    });
  }
  const { config } = await loadConfig(options.config);
  const socketPath = options.socket ?? config.daemon.socketPath;
  const logger = createLogger({ format: "text", level: "info" });
  await purgeHost({ ...config, daemon: { ...config.daemon, socketPath } }, options, logger);
  context.out(options.images ? "Everything is gone, images too." : "Everything is gone but the images.");
  return EXIT.ok;
};
