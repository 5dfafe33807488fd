/** `fleetingd config check` */
import { type LoadedConfig, loadConfig } from "../config/load.ts";
import type { Config, PoolConfig } from "../config/types.ts";
import { FleetingdError } from "../errors.ts";
import type { ConfigCheck } from "./answers.ts";
import { type CliCommand, EXIT, exitCodeOf, type ReadOptions } from "./context.ts";

export const configCheck: CliCommand<ReadOptions> = async ({ config: path, json }, context) => {
  let loaded: LoadedConfig;
  try {
    loaded = await loadConfig(path);
  } catch (error) {
    if (json !== true || !(error instanceof FleetingdError)) throw error;
    const answer: ConfigCheck = { valid: false, errors: error.message.split("\n") };
    context.out(JSON.stringify(answer, null, 2));
    return exitCodeOf(error);
  }
  const { config, files, notes } = loaded;
  if (json === true) {
    const answer: ConfigCheck = { valid: true, files, notes, config: { ...config } };
    context.out(JSON.stringify(answer, null, 2));
    return EXIT.ok;
  }
  for (const note of notes) context.err(note);
  for (const file of files) context.out(`read ${file}`);
  const pools = Object.entries(config.pools).map(
    ([name, pool]) => `pool ${name}: ${describePool(pool, config)}`,
  );
  for (const line of pools) context.out(line);
  context.out(
    pools.length === 0 ? "The configuration is valid; it has no pools." : "The configuration is valid.",
  );
  return EXIT.ok;
};

function describePool(pool: PoolConfig, { images }: Pick<Config, "images">): string {
  const count = `${pool.warmInstances} warm of at most ${pool.maxInstances}`;
  const vm =
    `each ${pool.vcpus} cores, ${pool.memoryMiB} MiB memory, ${pool.diskSizeGiB} GiB disk, ` +
    `image ${pool.image} (${images[pool.image]?.type ?? "unknown"})`;
  // What these are made of is their source's.
  const places = pool.sources.map(({ name, config }) =>
    config === undefined ? `on this host, ${vm}` : `at ${name} (${config.type})`,
  );
  const isHere = pool.sources.every(({ config }) => config === undefined);
  return isHere ? `${count} VMs, ${vm}` : `${count} instances: ${places.join("; ")}`;
}
