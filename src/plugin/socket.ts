/** Our own socket: where the host looks for it, and who may use it. */
import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { chmod, chown, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FleetingdError, messageOf } from "../errors.ts";
import { groupIdOf } from "../host/groups-file.ts";
import { MAX_SOCKET_PATH_BYTES } from "../host/unix-socket.ts";
import type { HostRequest } from "./protocol.ts";

export interface PluginSocket {
  path: string;
  /** Gives the socket, once it is bound, to the group that the host named. */
  open(): Promise<void>;
}

/**
 * Chooses the socket's path: in the host's folder, or in a private one of our own. What is made here is removed when the
 * process exits, however it exits.
 * @throws FleetingdError INVALID_ARGUMENT, PERMISSION
 */
export async function prepareSocket(request: HostRequest): Promise<PluginSocket> {
  const groupId = request.socketGroup === undefined ? undefined : await resolveGroup(request.socketGroup);
  const parent = request.socketDirectory ?? tmpdir();
  const path =
    request.socketDirectory === undefined
      ? join(await privateDirectory(parent, groupId), "socket")
      : join(parent, `plugin-${randomBytes(8).toString("hex")}`);
  removeAtExit(path);
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
    throw new FleetingdError(
      "INVALID_ARGUMENT",
      `the plugin's socket ${path} would have a path of more than ${MAX_SOCKET_PATH_BYTES} bytes`,
      { hint: "Set TMPDIR (or PLUGIN_UNIX_SOCKET_DIR) to a shorter folder for GitLab Runner." },
    );
  }
  return {
    path,
    open: async () => {
      if (groupId === undefined) return chmod(path, 0o600);
      await giveTo(path, groupId, 0o660);
    },
  };
}

async function privateDirectory(parent: string, groupId: number | undefined): Promise<string> {
  let directory: string;
  try {
    // mkdtemp makes it with mode 0700.
    directory = await mkdtemp(join(parent, "fleeting-plugin-"));
  } catch (error) {
    throw new FleetingdError(
      "PERMISSION",
      `could not make a folder for the plugin's socket in ${parent}: ${messageOf(error)}`,
      { hint: "Set TMPDIR to a folder that GitLab Runner may write to.", cause: error },
    );
  }
  removeAtExit(directory);
  // The group must get through the folder to the socket, and needs no more.
  if (groupId !== undefined) await giveTo(directory, groupId, 0o710);
  return directory;
}

async function giveTo(path: string, groupId: number, mode: number): Promise<void> {
  try {
    await chown(path, -1, groupId);
  } catch (error) {
    throw new FleetingdError(
      "PERMISSION",
      `could not give ${path} to group ${groupId} of PLUGIN_UNIX_SOCKET_GROUP: ${messageOf(error)}`,
      { hint: "The user that runs GitLab Runner must be a member of that group.", cause: error },
    );
  }
  await chmod(path, mode);
}

async function resolveGroup(group: string): Promise<number> {
  if (/^\d+$/.test(group)) return Number(group);
  const id = await groupIdOf(group);
  if (id !== undefined) return id;
  throw new FleetingdError(
    "INVALID_ARGUMENT",
    `PLUGIN_UNIX_SOCKET_GROUP names no group of this host: ${group}`,
    {
      hint: "Give an existing group, by name or by number.",
    },
  );
}

function removeAtExit(path: string): void {
  // Nothing asynchronous runs any more at exit.
  process.once("exit", () => rmSync(path, { recursive: true, force: true }));
}
