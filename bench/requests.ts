/** What a runner asks of the plugin, step by step. */
import type { PluginClient } from "../src/cli/demo/plugin-client.ts";
import { FleetingdError } from "../src/errors.ts";
import { State } from "../src/gen/fleeting.ts";
import { waitFor } from "../src/host/wait.ts";

const DELETE_TIMEOUT_MS = 60_000;
const POLL_MS = 2;

/** Asks for one instance; answers its id, whatever its state. */
export async function increaseByOne(plugin: PluginClient): Promise<{ id: string; running: boolean }> {
  const accepted = await plugin.increase(1);
  const [instance] = await plugin.update();
  if (accepted !== 1 || instance === undefined)
    throw new FleetingdError("EXHAUSTED", "the daemon gave no instance");
  return { id: instance.instance, running: instance.state === State.RUNNING };
}

/** Gives an instance back and waits until it is gone; answers how long that took. */
export async function deleteMs(plugin: PluginClient, id: string): Promise<number> {
  const begunAt = performance.now();
  await plugin.decrease([id]);
  const gone = async () =>
    (await plugin.update()).some(({ instance }) => instance === id) ? undefined : true;
  await waitFor(gone, { timeoutMs: DELETE_TIMEOUT_MS, intervalMs: POLL_MS, what: `the end of ${id}` });
  return performance.now() - begunAt;
}
