/** `fleetingd top`: pools and instances, drawn anew all the time. */
import type { DaemonStatus } from "../api/status.ts";
import { callUnary } from "../host/grpc.ts";
import { type CliCommand, EXIT, type GlobalOptions } from "./context.ts";
import { callError, withDaemon } from "./daemon-client.ts";
import { createScreen } from "./screen.ts";
import { renderTop, SORTS, type TopView } from "./top-view.ts";

export interface TopOptions extends GlobalOptions {
  /** In seconds. */
  interval: number;
}

const TIMEOUT_MS = 10_000;
const LEAST_INTERVAL_MS = 100;

export const top: CliCommand<TopOptions> = async (options, context) => {
  const intervalMs = Math.max(LEAST_INTERVAL_MS, options.interval * 1_000);
  await withDaemon(options, async (client) => {
    const read = async (): Promise<DaemonStatus> => {
      try {
        return JSON.parse((await callUnary(client.status.bind(client), {}, TIMEOUT_MS)).json) as DaemonStatus;
      } catch (error) {
        throw callError(error, TIMEOUT_MS);
      }
    };
    const view: TopView = { sort: "state", isReversed: false, offset: 0 };
    const { stdin, stdout } = process;
    if (stdin.isTTY !== true || stdout.isTTY !== true) {
      const size = { columns: stdout.columns ?? Number.POSITIVE_INFINITY, rows: Number.POSITIVE_INFINITY };
      for (const line of renderTop(await read(), view, size)) context.out(line);
      return;
    }
    // Before the screen: what is wrong with the first answer shall be told on the terminal as it is.
    let status = await read();
    const screen = createScreen(
      () => renderTop(status, view, stdout),
      (key) => press(view, key),
    );
    try {
      while (await screen.wait(intervalMs)) status = await read();
    } finally {
      screen.close();
    }
  });
  return EXIT.ok;
};

/** @returns false to end */
function press(view: TopView, key: string): boolean {
  if (key === "q" || key === "\x03" || key === "\x04") return false;
  if (key === "r") view.isReversed = !view.isReversed;
  else if (key === "j" || key === "\x1b[B") view.offset += 1;
  else if (key === "k" || key === "\x1b[A") view.offset = Math.max(0, view.offset - 1);
  else {
    const sort = SORTS.find(({ key: wanted }) => wanted === key);
    if (sort !== undefined) Object.assign(view, { sort: sort.name, offset: 0 });
  }
  return true;
}
