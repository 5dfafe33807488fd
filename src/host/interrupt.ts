/** Work that a signal from a person or from systemd ends early, in good order. */

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

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
  const listeners = Object.entries(SIGNALS).map(([name, number]) => {
    const listener = (): void => {
      exitCode ??= 128 + number;
      controller.abort();
    };
    process.once(name, listener);
    return [name, listener] as const;
  });
  try {
    return await work(controller.signal);
  } catch (error) {
    if (exitCode === undefined) throw error;
    onInterrupted();
    return exitCode;
  } finally {
    for (const [name, listener] of listeners) process.removeListener(name, listener);
  }
}
