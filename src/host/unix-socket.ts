/** Connections to unix sockets, whatever the length of their path. */
import { once } from "node:events";
import { constants, open } from "node:fs/promises";
import { connect, type Server, type Socket } from "node:net";
import { basename, dirname } from "node:path";
import { withTimeout } from "./wait.ts";

/** The longest path that the kernel takes for a unix socket, in bytes. */
export const MAX_SOCKET_PATH_BYTES = 107;

/**
 * Connects to the unix socket `path`. A path beyond the kernel's limit is reached through its folder's descriptor;
 * its server binds it by a short name relative to its own working directory.
 * @throws the system error (`ENOENT`, `ECONNREFUSED`, …), or FleetingdError TIMEOUT.
 */
export async function connectUnixSocket(path: string, timeoutMs: number): Promise<Socket> {
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES) return connectWithin(path, path, timeoutMs);
  const directory = await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    return await connectWithin(`/proc/self/fd/${directory.fd}/${basename(path)}`, path, timeoutMs);
  } finally {
    await directory.close();
  }
}

/**
 * Listens on the unix socket `path`, which does not exist yet; a path beyond the kernel's limit is reached as above.
 * @throws the system error
 */
export async function listenOnUnixSocket(server: Server, path: string): Promise<void> {
  const listen = async (address: string): Promise<void> => {
    server.listen({ path: address });
    await once(server, "listening");
  };
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES) return listen(path);
  const directory = await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await listen(`/proc/self/fd/${directory.fd}/${basename(path)}`);
  } finally {
    await directory.close();
  }
}

async function connectWithin(address: string, path: string, timeoutMs: number): Promise<Socket> {
  const socket = connect({ path: address });
  const connected = new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  try {
    await withTimeout(connected, timeoutMs, `a connection to ${path}`);
  } catch (error) {
    socket.destroy();
    throw error;
  }
  return socket;
}
