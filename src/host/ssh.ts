/** SSH logins to machines: a machine counts as up when a login has really worked. */
import { connect, type Socket } from "node:net";
import { NodeSSH } from "node-ssh";
import { FleetingdError, messageOf } from "../errors.ts";
import { abortable, sleep, withTimeout } from "./wait.ts";

export interface LoginTarget {
  address: string;
  port: number;
  username: string;
  /** OpenSSH private key, PEM. */
  privateKey: string;
  /** The machine's public host key, `ssh-ed25519 AAAA…`; undefined where it cannot be known beforehand. */
  hostKey: string | undefined;
}

export interface Login {
  /**
   * Runs a command of ours in the machine's shell; output is not limited, so keep it small.
   * @throws FleetingdError TIMEOUT, or CANCELLED by the signal; the command may go on as long as the login. UNAVAILABLE if the
   *   connection is lost
   */
  exec(
    command: string,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<{ exitCode: number | null; stdout: string; stderr: string }>;
  close(): void;
}

/** How connecting is tried again and again. */
interface Pace {
  attemptMs: number;
  pauseMs: number;
}

// On this host an answer is there at once; an attempt while the machine boots is lost, and the kernel would repeat it after 1 s.
const NEAR: Pace = { attemptMs: 60, pauseMs: 10 };
/** For a machine behind a network: an answer may be far away, and whoever stands between counts attempts. */
export const FAR: Pace = { attemptMs: 5_000, pauseMs: 250 };
const HANDSHAKE_TIMEOUT_MS = 20_000;
const RETRY_MS = 100;

/**
 * Tries until a login works; `pace` is for a machine on this host unless it is given.
 * @throws FleetingdError TIMEOUT with the last reason, or CANCELLED by the signal.
 */
export async function waitForLogin(
  target: LoginTarget,
  options: { timeoutMs: number; signal: AbortSignal; pace?: Pace },
): Promise<Login> {
  const { signal, pace = NEAR } = options;
  const deadline = performance.now() + options.timeoutMs;
  let reason = "nothing answered on its SSH port";
  for (;;) {
    const socket = await openSocket(target, { timeoutMs: pace.attemptMs, signal });
    if (socket !== undefined) {
      try {
        return await logIn(target, socket, signal);
      } catch (error) {
        reason = messageOf(error);
        await sleep(RETRY_MS, signal);
      }
    }
    if (performance.now() >= deadline) {
      throw new FleetingdError(
        "TIMEOUT",
        `no SSH login to ${target.username}@${target.address}:${target.port} within ${options.timeoutMs / 1000} s: ${reason}`,
      );
    }
    await sleep(pace.pauseMs, signal);
  }
}

/**
 * What the SSH server says first: a machine that hangs accepts connections in its kernel, but says nothing.
 * @throws the system error, or FleetingdError if something else answers, nothing does in time, or the signal is aborted
 */
export async function readSshBanner(
  { address, port }: Pick<LoginTarget, "address" | "port">,
  { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
): Promise<string> {
  const socket = connect({ host: address, port });
  const abort = (): void => void socket.destroy(new FleetingdError("TIMEOUT", "its SSH server says nothing"));
  const timer = setTimeout(abort, timeoutMs);
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort);
  try {
    const banner = await new Promise<string | undefined>((resolve, reject) => {
      socket.once("data", (chunk) => resolve(chunk.toString().split("\r\n", 1)[0] ?? ""));
      socket.once("end", () => resolve(undefined));
      socket.once("error", reject);
    });
    if (banner === undefined) throw new FleetingdError("UNAVAILABLE", "its SSH server closed the connection");
    if (banner.startsWith("SSH-")) return banner;
    throw new FleetingdError("UNAVAILABLE", "what answers on its SSH port is no SSH server");
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
    socket.destroy();
  }
}

/** Undefined if it could not be opened in time, or is wanted no more. */
function openSocket(
  target: LoginTarget,
  { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: target.address, port: target.port, noDelay: true });
    const fail = (): void => {
      signal.removeEventListener("abort", fail);
      socket.destroy();
      resolve(undefined);
    };
    if (signal.aborted) return fail();
    signal.addEventListener("abort", fail);
    socket.setTimeout(timeoutMs, fail);
    socket.once("error", fail);
    socket.once("connect", () => {
      signal.removeEventListener("abort", fail);
      socket.setTimeout(0);
      socket.removeListener("error", fail);
      resolve(socket);
    });
  });
}

async function logIn(target: LoginTarget, socket: Socket, signal: AbortSignal): Promise<Login> {
  const ssh = new NodeSSH();
  // Not only disposed of: a goodbye to a machine that is gone would keep this process for minutes.
  const close = (): void => {
    ssh.dispose();
    socket.destroy();
  };
  signal.addEventListener("abort", close, { once: true });
  try {
    await ssh.connect({
      sock: socket,
      username: target.username,
      privateKey: target.privateKey,
      // Without asking first which methods there are.
      authHandler: ["publickey"],
      readyTimeout: HANDSHAKE_TIMEOUT_MS,
      hostVerifier: (key: Buffer) => target.hostKey === undefined || sameKey(key, target.hostKey),
    });
  } catch (error) {
    close();
    throw error;
  } finally {
    signal.removeEventListener("abort", close);
  }
  let lost: Error | undefined;
  // While a command runs node-ssh doesn't listen, and an error that nobody hears ends this process: a machine would end the daemon.
  ssh.connection?.on("error", (error) => {
    lost = error;
  });
  return {
    async exec(command, timeoutMs, signal) {
      const what = `the command ${command}`;
      const running = ssh.execCommand(command);
      const work = signal === undefined ? running : abortable(running, signal, `${what} was cancelled`);
      try {
        const { code, stdout, stderr } = await withTimeout(work, timeoutMs, what);
        if (code === null && lost !== undefined) throw lost;
        return { exitCode: code, stdout, stderr };
      } catch (error) {
        if (error !== lost) throw error;
        const message = `the SSH connection was lost during ${what}: ${messageOf(error)}`;
        throw new FleetingdError("UNAVAILABLE", message, { cause: error });
      }
    },
    close,
  };
}

function sameKey(offered: Buffer, expected: string): boolean {
  return expected.split(" ")[1] === offered.toString("base64");
}
