/** Where things are if nobody says otherwise. */

export const DEFAULT_CONFIG_PATH = "/etc/fleetingd/config.toml";
export const DEFAULT_SOCKET = "/run/fleetingd/fleetingd.sock";
