/** The channel: a virtio-serial port whose other end is a socket in the VM's directory. */
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { FleetingdError } from "../../errors.ts";
import { removeTree } from "../../host/files.ts";
import { connectUnixSocket } from "../../host/unix-socket.ts";
import { waitFor } from "../../host/wait.ts";
import { CHANNEL_BACKEND, CHANNEL_DEVICE, CHANNEL_SOCKET } from "./arguments.ts";
import type { Monitor } from "./monitor.ts";

const POLL_MS = 5;

/** QEMU listens from its start on, and hands on what it hears as soon as the guest has opened the port. */
export async function openChannel(directory: string, timeoutMs: number): Promise<Duplex> {
  return connectUnixSocket(join(directory, CHANNEL_SOCKET), timeoutMs);
}

/**
 * Unplugs the port, which the guest cannot refuse, and lets QEMU close and forget the socket.
 * @throws FleetingdError TIMEOUT, UNAVAILABLE, HYPERVISOR_FAILED
 */
export async function removeChannel(
  vm: { directory: string; monitor: Monitor },
  timeoutMs: number,
): Promise<void> {
  await gone("device_del", CHANNEL_DEVICE, vm.monitor, timeoutMs);
  await gone("chardev-remove", CHANNEL_BACKEND, vm.monitor, timeoutMs);
  await removeTree(join(vm.directory, CHANNEL_SOCKET));
}

/** Repeats the command until there is nothing of that name: a device is gone a moment after QEMU has said that it will be. */
async function gone(command: string, id: string, monitor: Monitor, timeoutMs: number): Promise<void> {
  const remove = async (): Promise<true | undefined> => {
    try {
      await monitor.execute(command, { timeoutMs, arguments: { id } });
      return command === "chardev-remove" ? true : undefined;
    } catch (error) {
      if (!(error instanceof FleetingdError) || error.code !== "HYPERVISOR_FAILED") throw error;
      if (/not found/i.test(error.message)) return true;
      // A port that is being unplugged still holds its socket, and its device.
      if (/busy|in the process of unplug/i.test(error.message)) return undefined;
      throw error;
    }
  };
  await waitFor(remove, { timeoutMs, intervalMs: POLL_MS, what: "the channel to be gone" });
}
