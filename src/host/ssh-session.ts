/** A terminal session on a machine, or one command with its input and output, in this process's own terminal. */
import type { Readable } from "node:stream";
import ssh2, { type ClientChannel } from "ssh2";
import { FleetingdError, messageOf } from "../errors.ts";
import type { LoginTarget } from "./ssh.ts";

const READY_TIMEOUT_MS = 15_000;
const KEEPALIVE_MS = 15_000;
const LOST_AFTER = 4;
const ENDED_BY_SIGNAL = 255;

/**
 * Runs a shell, or `command`, until it ends.
 * @param input What it reads; this process's own standard input if not given.
 * @returns its exit code; 255 if it was ended by a signal
 * @throws FleetingdError UNAVAILABLE if there is no login, or the connection ends before it does: what became of it is not known
 */
export async function runSession(
  target: LoginTarget,
  command: string | undefined,
  input?: Readable,
): Promise<number> {
  const client = new ssh2.Client();
  const lost = new Promise<never>((_, reject) => {
    client.once("error", (error) =>
      reject(
        new FleetingdError(
          "UNAVAILABLE",
          `the SSH connection to ${target.address} failed: ${messageOf(error)}.`,
          { cause: error },
        ),
      ),
    );
  });
  // Whatever comes after the first error is only its consequence.
  lost.catch(() => client.on("error", () => undefined));
  try {
    const ready = new Promise<void>((resolve) => client.once("ready", resolve));
    client.connect({
      host: target.address,
      port: target.port,
      username: target.username,
      privateKey: target.privateKey,
      readyTimeout: READY_TIMEOUT_MS,
      keepaliveInterval: KEEPALIVE_MS,
      keepaliveCountMax: LOST_AFTER,
    });
    await Promise.race([ready, lost]);
    const session = await Promise.race([openSession(client, command), lost]);
    return await Promise.race([attach(session, input), lost]);
  } finally {
    client.end();
  }
}

interface Session {
  channel: ClientChannel;
  /** Its exit code, when the channel has closed; rejects if none was told, for the connection was closed. */
  ended: Promise<number>;
}

function openSession(client: ssh2.Client, command: string | undefined): Promise<Session> {
  return new Promise((resolve, reject) => {
    const opened = (error: Error | undefined, channel: ClientChannel): void => {
      // At once: a short command's end comes together with its beginning.
      if (error === undefined) resolve({ channel, ended: endOf(channel) });
      else reject(error);
    };
    if (command !== undefined) return void client.exec(command, opened);
    const { columns: cols = 80, rows = 24 } = process.stdout;
    client.shell({ term: process.env["TERM"] ?? "dumb", cols, rows }, opened);
  });
}

function endOf(channel: ClientChannel): Promise<number> {
  let exitCode: number | undefined;
  channel.on("exit", (code: number | null) => {
    exitCode = code ?? ENDED_BY_SIGNAL;
  });
  const ended = new Promise<number>((resolve, reject) => {
    channel.once("close", () => {
      if (exitCode !== undefined) resolve(exitCode);
      else
        reject(new FleetingdError("UNAVAILABLE", "the SSH connection was closed before the command ended."));
    });
  });
  // The connection may have failed before anybody waits for this.
  ended.catch(() => undefined);
  return ended;
}

/** Joins the channel and this process's terminal until the channel closes. */
async function attach({ channel, ended }: Session, input: Readable | undefined): Promise<number> {
  const { stdin, stdout, stderr } = process;
  const isTerminal = input === undefined && stdin.isTTY === true && stdout.isTTY === true;
  const resize = (): void => channel.setWindow(stdout.rows, stdout.columns, 0, 0);
  if (isTerminal) {
    stdin.setRawMode(true);
    stdout.on("resize", resize);
  }
  (input ?? stdin).pipe(channel);
  channel.pipe(stdout, { end: false });
  channel.stderr.pipe(stderr, { end: false });
  try {
    return await ended;
  } finally {
    if (isTerminal) stdin.setRawMode(false);
    stdout.removeListener("resize", resize);
    (input ?? stdin).unpipe(channel);
    stdin.pause();
    stdin.unref();
  }
}
