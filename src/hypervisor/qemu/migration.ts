/**
 * The state of a VM's devices, out of one QEMU through a unix socket in its VM's directory, and into another from its standard
 * input: what QEMU's sandbox allows, and its older versions know. Memory stays where it is: in a file that both map.
 */
import { createWriteStream } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import * as z from "zod";
import { FleetingdError } from "../../errors.ts";
import { removeTree } from "../../host/files.ts";
import { listenOnUnixSocket } from "../../host/unix-socket.ts";
import { waitFor, withTimeout } from "../../host/wait.ts";
import type { Monitor } from "./monitor.ts";

/** In a snapshot's state directory. */
export const STATE_FILE = "devices";

const SOCKET = "state.sock";
const POLL_MS = 2;
const COMMAND_TIMEOUT_MS = 5_000;

interface Party {
  directory: string;
  monitor: Monitor;
}

/** Stops the guest and writes the state of its devices to `stateDirectory`. @throws FleetingdError */
export async function saveDevices(vm: Party, stateDirectory: string, timeoutMs: number): Promise<void> {
  const path = join(vm.directory, SOCKET);
  await vm.monitor.execute("stop", { timeoutMs });
  await leaveMemoryOut(vm.monitor);
  const server = createServer();
  const connected = new Promise<Socket>((resolve) => server.once("connection", resolve));
  try {
    await listenOnUnixSocket(server, path);
    const migrate = { timeoutMs: COMMAND_TIMEOUT_MS, arguments: { uri: `unix:${SOCKET}` } };
    await vm.monitor.execute("migrate", migrate);
    const socket = await withTimeout(connected, COMMAND_TIMEOUT_MS, "QEMU to send the state of its devices");
    const written = pipeline(socket, createWriteStream(join(stateDirectory, STATE_FILE), { mode: 0o600 }));
    await withTimeout(written, timeoutMs, "the state of a VM's devices");
    await untilMigrated(vm.monitor, timeoutMs);
  } finally {
    server.close();
    await removeTree(path);
  }
}

/**
 * Lets a QEMU that waits for the state of devices read it from its standard input, and the guest go on. (By then it can
 * open no file and no socket.)
 * @throws FleetingdError
 */
export async function loadDevices(monitor: Monitor, timeoutMs: number): Promise<void> {
  await leaveMemoryOut(monitor);
  const incoming = { timeoutMs: COMMAND_TIMEOUT_MS, arguments: { uri: "fd:0" } };
  await monitor.execute("migrate-incoming", incoming);
  await untilMigrated(monitor, timeoutMs);
  await monitor.execute("cont", { timeoutMs: COMMAND_TIMEOUT_MS });
}

async function leaveMemoryOut(monitor: Monitor): Promise<void> {
  const capabilities = [{ capability: "x-ignore-shared", state: true }];
  await monitor.execute("migrate-set-capabilities", {
    timeoutMs: COMMAND_TIMEOUT_MS,
    arguments: { capabilities },
  });
}

const migrationSchema = z.object({ status: z.string().optional(), "error-desc": z.string().optional() });

async function untilMigrated(monitor: Monitor, timeoutMs: number): Promise<void> {
  const look = async (): Promise<true | undefined> => {
    const answer = await monitor.execute("query-migrate", { timeoutMs: COMMAND_TIMEOUT_MS });
    const { status, "error-desc": reason } = migrationSchema.parse(answer);
    if (status === "completed") return true;
    if (status !== "failed" && status !== "cancelled") return undefined;
    throw new FleetingdError(
      "HYPERVISOR_FAILED",
      `QEMU could not hand over its devices: ${reason ?? status}`,
    );
  };
  await waitFor(look, { timeoutMs, intervalMs: POLL_MS, what: "the state of a VM's devices" });
}
