/** Serves the daemon's interface on its unix socket. */
import { chmod, chown, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { FleetingdError } from "../errors.ts";
import { type DaemonServer, DaemonService } from "../gen/fleetingd.ts";
import { ensureDirectory } from "../host/files.ts";
import { groupIdOf } from "../host/groups-file.ts";
import { closeServer, listenOnUnixSocket } from "../host/grpc.ts";
import { isLeftOver } from "../host/leftover-socket.ts";
import { MAX_SOCKET_PATH_BYTES } from "../host/unix-socket.ts";
import type { Logger } from "../log.ts";

export interface ApiServer {
  /** Ends every call and removes the socket. */
  close(): Promise<void>;
}

export interface ApiServerOptions {
  socketPath: string;
  /** Members of this group may use the socket besides root; a group that does not exist is warned of. */
  socketGroup: string | undefined;
  service: DaemonServer;
  logger: Logger;
}

const MAX_REQUEST_BYTES = 1024 * 1024;
/** What one connection may have under way; how much all may have together is the service's to say. */
const MAX_CALLS_PER_CONNECTION = 64;

/** @throws FleetingdError ALREADY_EXISTS if a daemon listens there already, INVALID_CONFIG, PERMISSION */
export async function startApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const { socketPath } = options;
  if (Buffer.byteLength(socketPath) > MAX_SOCKET_PATH_BYTES) {
    throw new FleetingdError(
      "INVALID_CONFIG",
      `the socket's path ${socketPath} is longer than ${MAX_SOCKET_PATH_BYTES} bytes`,
      {
        hint: "Set daemon.socket to a shorter path.",
      },
    );
  }
  await ensureDirectory(dirname(socketPath), 0o755);
  if (await isLeftOver(socketPath)) await unlink(socketPath);
  const server = new Server({
    "grpc.max_receive_message_length": MAX_REQUEST_BYTES,
    "grpc.max_concurrent_streams": MAX_CALLS_PER_CONNECTION,
  });
  server.addService(DaemonService, options.service);
  await bind(server, socketPath);
  await setAccess(socketPath, options.socketGroup, options.logger);
  return { close: () => closeServer(server) };
}

async function bind(server: Server, socketPath: string): Promise<void> {
  // The socket must not be open to others between bind and chmod.
  const previous = process.umask(0o177);
  try {
    await listenOnUnixSocket(server, socketPath, ServerCredentials.createInsecure());
  } finally {
    process.umask(previous);
  }
}

async function setAccess(path: string, group: string | undefined, logger: Logger): Promise<void> {
  if (group === undefined) return;
  const gid = await groupIdOf(group);
  if (gid === undefined) {
    logger.warn("the socket's group does not exist, so only root may use the socket", {
      group,
      socket: path,
    });
    return;
  }
  await chown(path, process.getuid?.() ?? 0, gid);
  await chmod(path, 0o660);
}
