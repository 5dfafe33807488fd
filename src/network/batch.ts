/** Things that are asked for at the same time are done together: one program instead of many. */

interface Waiting<T> {
  item: T;
  settle: (outcome: PromiseSettledResult<void>) => void;
}

/**
 * A function that hands items to `runBatch`, one batch at a time; what arrives meanwhile is the next batch.
 * A batch that fails as a whole is run again item by item, so that one bad item does not fail the others:
 * `runBatch` must stand to be repeated.
 */
export function createBatcher<T>(
  runBatch: (items: readonly T[]) => Promise<void>,
  maxItems: number,
): (item: T) => Promise<void> {
  const queue: Waiting<T>[] = [];
  let running = false;

  const drain = async (): Promise<void> => {
    running = true;
    while (queue.length > 0) await runOne(queue.splice(0, maxItems), runBatch);
    running = false;
  };

  return async (item) => {
    const outcome = await new Promise<PromiseSettledResult<void>>((settle) => {
      queue.push({ item, settle });
      // One turn of the event loop later, so that callers that start together share the batch.
      if (!running) setImmediate(() => (running ? undefined : void drain()));
    });
    if (outcome.status === "rejected") throw outcome.reason;
  };
}

async function runOne<T>(
  batch: readonly Waiting<T>[],
  runBatch: (items: readonly T[]) => Promise<void>,
): Promise<void> {
  const together = await outcomeOf(runBatch(batch.map((waiting) => waiting.item)));
  for (const waiting of batch) {
    const alone = together.status === "fulfilled" || batch.length === 1;
    waiting.settle(alone ? together : await outcomeOf(runBatch([waiting.item])));
  }
}

async function outcomeOf(work: Promise<void>): Promise<PromiseSettledResult<void>> {
  const [outcome] = await Promise.allSettled([work]);
  return outcome;
}

/**
 * Runs work with the same key one after the other, in the order of the calls; different keys don't wait.
 */
export function createTurns(): <T>(key: string, work: () => Promise<T>) => Promise<T> {
  const last = new Map<string, Promise<unknown>>();
  return async (key, work) => {
    const mine = Promise.allSettled([last.get(key)]).then(work);
    last.set(key, mine);
    try {
      return await mine;
    } finally {
      if (last.get(key) === mine) last.delete(key);
    }
  };
}
