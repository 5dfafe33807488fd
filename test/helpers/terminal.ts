/** A real terminal (tmux) of a given size that a program runs in: what is drawn in it, and what is typed. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { waitFor } from "../../src/host/wait.ts";

export interface Terminal {
  /** The lines that it shows now. */
  screen(): Promise<string[]>;
  /** Waits until it shows that. */
  untilShows(pattern: RegExp): Promise<string[]>;
  /** Presses keys, by tmux' names. */
  press(...keys: string[]): Promise<void>;
  resize(columns: number, rows: number): Promise<void>;
  close(): Promise<void>;
}

/** Only for what hangs. */
const TIMEOUT_MS = 120_000;

export async function openTerminal(
  command: readonly string[],
  { columns, rows }: { columns: number; rows: number },
): Promise<Terminal> {
  const folder = await mkdtemp(join(tmpdir(), "terminal-"));
  const env = { LANG: "C.UTF-8", TERM: "xterm-256color" };
  const tmux = async (...args: string[]): Promise<string> =>
    (await execa("tmux", ["-u", "-S", join(folder, "tmux"), "-f", "/dev/null", ...args], { env })).stdout;
  // A shell behind it, so that what the program leaves on the terminal can be seen.
  await tmux("new-session", "-d", "-x", `${columns}`, "-y", `${rows}`, "env", "PS1=ended> ", "sh");
  await tmux("send-keys", "-l", command.map((word) => `'${word}'`).join(" "));
  await tmux("send-keys", "Enter");
  const screen = async (): Promise<string[]> => (await tmux("capture-pane", "-p")).split("\n");
  return {
    screen,
    untilShows(pattern) {
      let last: string[] = [];
      const shows = async (): Promise<string[] | undefined> => {
        last = await screen();
        return pattern.test(last.join("\n")) ? last : undefined;
      };
      return waitFor(shows, { timeoutMs: TIMEOUT_MS, intervalMs: 50, what: `${pattern}` }).catch(
        (error: unknown) => {
          throw new Error(`the terminal shows:\n${last.join("\n")}`, { cause: error });
        },
      );
    },
    press: async (...keys) => void (await tmux("send-keys", ...keys)),
    resize: async (width, height) => void (await tmux("resize-window", "-x", `${width}`, "-y", `${height}`)),
    async close() {
      await tmux("kill-server");
      await rm(folder, { recursive: true });
    },
  };
}
