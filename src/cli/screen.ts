/** A terminal of which the whole screen is ours for a while: nothing is left of it afterwards. */
import { onSignals } from "../host/interrupt.ts";
import { sleep } from "../host/wait.ts";

export interface Screen {
  /** Draws, waits and handles keys; false as soon as one of them ends it. */
  wait(ms: number): Promise<boolean>;
  /** Gives the terminal back as it was. */
  close(): void;
}

const ENTER = "\x1b[?1049h\x1b[?25l";
const LEAVE = "\x1b[?25h\x1b[?1049l";
const HOME = "\x1b[H";
const CLEAR_TO_END_OF_LINE = "\x1b[K";

/** @param press answers false to a key that ends it */
export function createScreen(render: () => readonly string[], press: (key: string) => boolean): Screen {
  const { stdin, stdout } = process;
  const ending = new AbortController();
  const draw = (): void => {
    if (ending.signal.aborted) return;
    // Lines are overwritten, not cleared: so nothing flickers.
    stdout.write(
      HOME +
        render()
          .map((line) => line + CLEAR_TO_END_OF_LINE)
          .join("\r\n"),
    );
  };
  const onKey = (data: Buffer): void => {
    if (!press(data.toString())) ending.abort();
    draw();
  };
  const stopListening = onSignals(["SIGINT", "SIGTERM", "SIGHUP"], () => ending.abort());
  stdin.setRawMode(true);
  stdin.resume();
  stdin.on("data", onKey);
  stdout.on("resize", draw);
  stdout.write(ENTER);
  return {
    async wait(ms) {
      draw();
      try {
        await sleep(ms, ending.signal);
      } catch (error) {
        if (!ending.signal.aborted) throw error;
      }
      return !ending.signal.aborted;
    },
    close() {
      ending.abort();
      stopListening();
      stdin.removeListener("data", onKey);
      stdout.removeListener("resize", draw);
      stdin.setRawMode(false);
      stdin.pause();
      stdin.unref();
      stdout.write(LEAVE);
    },
  };
}
