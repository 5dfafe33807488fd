/** Work that a signal from a person or from systemd ends early, in good order. */

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

export type EndingSignal = keyof typeof SIGNALS;

/**
 * Calls `first` at the first signal of each of these kinds; a second one of a kind ends the process at once.
 *
 * A listener that were removed at the first signal would make that one the second: execa listens, too, while a program
 * runs, and sends a signal that nobody else listens for to the process once more.
 * @returns what ends it
 */
export function onSignals(names: readonly EndingSignal[], first: (name: EndingSignal) => void): () => void {
  const seen = new Set<EndingSignal>();
  const listener = (name: NodeJS.Signals): void => {
    const known = names.find((one) => one === name);
    if (known === undefined || seen.has(known)) {
      stop();
      process.kill(process.pid, name);
    } else {
      seen.add(known);
      first(known);
    }
  };
  const stop = (): void => {
    for (const name of names) process.removeListener(name, listener);
  };
  for (const name of names) process.on(name, listener);
  return stop;
}

/**
 * Runs `work` with a signal that the first SIGHUP, SIGINT or SIGTERM aborts; a second one of the same kind ends the
 * process at once.
 * @param onInterrupted Called once `work` has given up.
 * @returns What `work` answers, or what a shell expects of a program that such a signal has ended.
 */
export async function interruptible(
  work: (signal: AbortSignal) => Promise<number>,
  onInterrupted: () => void = () => undefined,
): Promise<number> {
  const controller = new AbortController();
  let exitCode: number | undefined;
  const stop = onSignals(["SIGHUP", "SIGINT", "SIGTERM"], (name) => {
    exitCode ??= 128 + SIGNALS[name];
    controller.abort();
  });
  try {
    return await work(controller.signal);
  } catch (error) {
    if (exitCode === undefined) throw error;
    onInterrupted();
    return exitCode;
  } finally {
    stop();
  }
}
