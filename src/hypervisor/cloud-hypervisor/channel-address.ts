/** Where the ends of the channel are. */

/** In the VM's directory: the host's end. */
export const CHANNEL_SOCKET = "channel.sock";
/** By which it can be unplugged. */
export const CHANNEL_DEVICE = "channel";
/** Each VM has a bus of its own, so all guests have the same number. */
export const CHANNEL_CID = 3;
/** Where the guest part listens. */
export const CHANNEL_PORT = 1717;
