/** The one monitor connection of a VM, kept open and opened again where it broke. */
import { FleetingdError } from "../../errors.ts";
import { connectQmp, type QmpArguments, type QmpConnection } from "./qmp.ts";
import type { QmpEvent } from "./qmp-message.ts";

export interface Monitor {
  /** Connects if there is no connection; repeated and concurrent calls are one. */
  open(timeoutMs: number): Promise<void>;
  /** Runs a command, after connecting again if need be, all within `timeoutMs`. */
  execute(command: string, options: { timeoutMs: number; arguments?: QmpArguments }): Promise<unknown>;
  /** Ends the connection for good. */
  close(): void;
}

export interface MonitorOptions {
  socketPath: string;
  onEvent(event: QmpEvent): void;
  /** The connection ended without `close`. */
  onLost(): void;
}

export function createMonitor(options: MonitorOptions): Monitor {
  let current: QmpConnection | undefined;
  let connecting: Promise<QmpConnection> | undefined;
  let isClosed = false;

  const keep = (connection: QmpConnection): QmpConnection => {
    if (isClosed) {
      connection.close();
      throw closedError();
    }
    current = connection;
    void connection.closed.then(() => {
      if (current === connection) current = undefined;
      if (!isClosed) options.onLost();
    });
    return connection;
  };
  const connection = async (timeoutMs: number): Promise<QmpConnection> => {
    if (isClosed) throw closedError();
    if (current !== undefined) return current;
    connecting ??= connectQmp(options.socketPath, { timeoutMs, onEvent: options.onEvent })
      .then(keep)
      .finally(() => {
        connecting = undefined;
      });
    return connecting;
  };

  return {
    async open(timeoutMs) {
      await connection(timeoutMs);
    },
    async execute(command, { timeoutMs, ...rest }) {
      const deadline = performance.now() + timeoutMs;
      const open = await connection(timeoutMs);
      return open.execute(command, { timeoutMs: Math.max(1, deadline - performance.now()), ...rest });
    },
    close() {
      isClosed = true;
      current?.close();
    },
  };
}

function closedError(): FleetingdError {
  return new FleetingdError("UNAVAILABLE", "QEMU's monitor cannot be reached: its VM is gone");
}
