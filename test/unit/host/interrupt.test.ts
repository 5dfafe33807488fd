/** Signals to a real process: the first one begins its end, and nothing else does. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { execa } from "execa";

const SOURCE = join(import.meta.dirname, "../../../src/host");

/** Runs a program that says "ready", and is then sent these signals; it takes a moment for its end. */
async function signalled(...signals: readonly NodeJS.Signals[]): Promise<{ stdout: string; end: unknown }> {
  const program = `
    import { interruptible } from "${SOURCE}/interrupt.ts";
    import { run } from "${SOURCE}/run.ts";
    process.exitCode = await interruptible(async (signal) => {
      const aborted = new Promise((resolve) => signal.addEventListener("abort", resolve));
      // A program is running: the library that runs it listens for signals, too, and after us.
      run("sleep", ["60"], { timeoutMs: 60_000 }).catch(() => console.log("the program was ended"));
      await new Promise((resolve) => setTimeout(resolve, 300));
      console.log("ready");
      await Promise.race([aborted, new Promise((resolve) => setTimeout(resolve, 60_000))]);
      console.log("stopping");
      await new Promise((resolve) => setTimeout(resolve, ${signals.length > 1 ? 60_000 : 300}));
      console.log("stopped in order");
      throw new Error("given up");
    });
    process.exit();`;
  const child = execa("node", ["--import", "tsx", "--input-type=module", "--eval", program], {
    reject: false,
  });
  let next = 0;
  child.stdout.on("data", (text: Buffer) => {
    const lines = text.toString().match(/ready|stopping/g) ?? [];
    for (const _ of lines) if (next < signals.length) child.kill(signals[next++]);
  });
  const { stdout, exitCode, signal } = await child;
  return { stdout, end: signal ?? exitCode };
}

test("one signal lets work end in order, also while a program runs", async () => {
  const { stdout, end } = await signalled("SIGTERM");
  assert.match(stdout, /stopping\nstopped in order/);
  assert.equal(end, 143);
});

test("a second one ends the process at once", async () => {
  const { stdout, end } = await signalled("SIGINT", "SIGINT");
  assert.doesNotMatch(stdout, /in order/);
  assert.equal(end, "SIGINT");
});
