/**
 * The channel: vsock, whose host's end is a socket in the VM's directory. The guest part listens; nobody listens on the host, so
 * that a guest reaches nothing by it.
 */
import { once } from "node:events";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { FleetingdError, systemErrorCode } from "../../errors.ts";
import { exists, removeTree } from "../../host/files.ts";
import { connectUnixSocket } from "../../host/unix-socket.ts";
import { sleep, withTimeout } from "../../host/wait.ts";
import type { CloudHypervisorApi } from "./api.ts";
import { CHANNEL_DEVICE, CHANNEL_PORT, CHANNEL_SOCKET } from "./channel-address.ts";

const RETRY_MS = 10;

/** @throws FleetingdError TIMEOUT if nobody in the guest listens; the system error of a channel that was removed. */
export async function openChannel(directory: string, timeoutMs: number): Promise<Duplex> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const left = Math.max(1, deadline - performance.now());
    const socket = await connectUnixSocket(join(directory, CHANNEL_SOCKET), left);
    socket.on("error", () => undefined);
    socket.write(`CONNECT ${CHANNEL_PORT}\n`);
    // Without a listener in the guest the connection ends without a word.
    const answer = await withTimeout(firstBytes(socket), left, "the guest's end of the channel").catch(
      (error: unknown) => {
        socket.destroy();
        throw error;
      },
    );
    if (answer.startsWith("OK ")) return socket;
    socket.destroy();
    if (performance.now() >= deadline) {
      throw new FleetingdError("TIMEOUT", "nobody in the guest has opened its end of the channel");
    }
    await sleep(RETRY_MS);
  }
}

export async function removeChannel(
  vm: { directory: string; api: CloudHypervisorApi },
  timeoutMs: number,
): Promise<void> {
  const path = join(vm.directory, CHANNEL_SOCKET);
  if (!(await exists(path))) return;
  // Without the socket the host's side is gone, whatever becomes of the device in the guest.
  await removeTree(path);
  await vm.api.request("vm.remove-device", { id: CHANNEL_DEVICE }, timeoutMs);
}

async function firstBytes(socket: Duplex): Promise<string> {
  const ended = once(socket, "close").then(() => "");
  const spoken = once(socket, "data").then(([data]) => String(data));
  try {
    return await Promise.race([ended, spoken]);
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
    return "";
  } finally {
    socket.pause();
  }
}
