/** Progress on standard error: one line that is redrawn on a terminal, plain lines elsewhere. */

import { formatAge, printable } from "../api/text.ts";
import type { CliContext } from "./context.ts";

export interface Progress {
  /** What goes on now. */
  update(text: string): void;
  /** A line that stays. */
  note(text: string): void;
  /** Leaves the terminal as it should be. */
  end(): void;
}

const CLEAR_LINE = "\r\x1b[2K";
const PLAIN_INTERVAL_MS = 10_000;

export function createProgress(context: CliContext): Progress {
  const { terminalColumns } = context;
  return terminalColumns === undefined ? plainLines(context) : redrawnLine(context, terminalColumns);
}

function redrawnLine(context: CliContext, columns: number): Progress {
  const start = performance.now();
  let current = "";
  const draw = (): void => {
    const text = `${formatAge((performance.now() - start) / 1000)}  ${current}`;
    context.errRaw(`${CLEAR_LINE}${text.slice(0, columns - 1)}`);
  };
  // The seconds go on while nothing else does, so that one sees it lives.
  const timer = setInterval(draw, 1000);
  return {
    update(text) {
      current = printable(text);
      draw();
    },
    note(text) {
      context.errRaw(`${CLEAR_LINE}${printable(text)}\n`);
      if (current !== "") draw();
    },
    end() {
      clearInterval(timer);
      context.errRaw(CLEAR_LINE);
    },
  };
}

function plainLines(context: CliContext): Progress {
  let shown = "";
  let shownAt = 0;
  return {
    update(text) {
      // The same step with other numbers is news only now and then.
      const step = text.replaceAll(/\d+/g, "#");
      if (step === shown && performance.now() - shownAt < PLAIN_INTERVAL_MS) return;
      shown = step;
      shownAt = performance.now();
      context.err(printable(text));
    },
    note: (text) => context.err(printable(text)),
    end: () => undefined,
  };
}
