/** Progress for people: one line a step with its elapsed time, redrawn on a terminal and plain elsewhere. */
import type { WriteStream } from "node:tty";

export interface Steps {
  /** Runs `work` as a step; `note` shows what it is doing right now. */
  step<T>(title: string, work: (note: (text: string) => void) => Promise<T>): Promise<T>;
  /** A line of its own. */
  say(text: string): void;
}

const REDRAW_MS = 200;

/** @param startedAt When the clock began, in milliseconds since 1970. */
export function createSteps(
  out: Pick<WriteStream, "write"> & { isTTY?: boolean; columns?: number },
  startedAt = Date.now(),
): Steps {
  const clock = (): string => `${((Date.now() - startedAt) / 1000).toFixed(1).padStart(6)} s`;
  const live = out.isTTY === true;
  const clear = live ? "\r\u001b[K" : "";
  return {
    say: (text) => void out.write(`${text}\n`),
    async step(title, work) {
      const begunAt = performance.now();
      let current = "";
      const seconds = (): string => `${((performance.now() - begunAt) / 1000).toFixed(1)} s`;
      const draw = (): void => {
        const line = `${clock()}  … ${title} ${seconds()}${current === "" ? "" : `: ${current}`}`;
        out.write(`${clear}${line.slice(0, (out.columns ?? 80) - 1)}`);
      };
      const note = (text: string): void => {
        if (text === current) return;
        current = text;
        if (!live) out.write(`${clock()}    ${title}: ${text}\n`);
      };
      if (!live) out.write(`${clock()}  … ${title}\n`);
      const timer = live ? setInterval(draw, REDRAW_MS) : undefined;
      try {
        const result = await work(note);
        out.write(`${clear}${clock()}  ✓ ${title} (${seconds()})\n`);
        return result;
      } catch (error) {
        out.write(`${clear}${clock()}  ✗ ${title} (${seconds()})\n`);
        throw error;
      } finally {
        clearInterval(timer);
      }
    },
  };
}
