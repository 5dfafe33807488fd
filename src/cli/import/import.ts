/** What GitLab Runner's configuration for another plugin or executor means here: pure. */

import { configError, type Problem } from "../../config/problems.ts";
import type { Autoscaler, CustomExecutor } from "../../config/runner-file.ts";
import { type SourceType, sourceTables } from "../../config/source-keys.ts";
import { assignment } from "../../config/to-toml.ts";
import { FleetingdError } from "../../errors.ts";
import { LOCAL } from "../../sources/source.ts";
import type { Import, ImportedRunner, Note } from "./answer.ts";
import { distrosOf, executorLines, executorNotes, isLibvirtExecutor, keysOf } from "./libvirt-executor.ts";
import { type NewPool, newPool } from "./pool.ts";
import { type RunnerEntry, readRunnerFile } from "./runner-file.ts";

export interface ImportHost {
  /** The names of libvirt-gitlab-executor's base images, as files. */
  baseImages: readonly string[];
  /** The path of `fleetingd`. */
  program: string;
}

type Table = Readonly<Record<string, unknown>>;

const PLUGIN = "fleeting-plugin-fleetingd";
const PLUGIN_CONFIG = ["autoscaler", "plugin_config"];
/** They would hide that each instance has a key of its own. */
const CREDENTIALS = ["use_static_credentials", "password", "key_path"];
const LONGEST_NAME = 32;

/** @throws FleetingdError INVALID_CONFIG with every error and its line, or NOT_FOUND if nothing is there to import */
export function importRunners(file: string, text: string, host: ImportHost): Import {
  const work = new Work(host);
  for (const runner of readRunnerFile(file, text)) work.add(runner);
  if (work.problems.length > 0) throw configError(work.problems);
  if (!work.hasFound) {
    throw new FleetingdError("NOT_FOUND", `there is nothing to import in ${file}.`, {
      hint: "It is GitLab Runner's config.toml that is wanted, with [runners.autoscaler.plugin_config] of a plugin that fleetingd replaces, or libvirt-gci in [runners.custom].",
    });
  }
  return work.result;
}

class Work {
  readonly result: Import = { runners: [], config: { sources: {}, pools: {} } };
  readonly problems: Problem[] = [];
  hasFound = false;
  readonly #host: ImportHost;
  /** A name of a section that would mean something else. */
  readonly #taken = new Set([LOCAL]);

  constructor(host: ImportHost) {
    this.#host = host;
  }

  add(runner: RunnerEntry): void {
    if (isLibvirtExecutor(runner.custom)) this.#addExecutor(runner, runner.custom);
    else if (runner.autoscaler !== undefined) this.#addPlugin(runner, runner.autoscaler);
  }

  #addPlugin(runner: RunnerEntry, autoscaler: Autoscaler): void {
    const { plugin_config: given } = autoscaler;
    const from = autoscaler.plugin ?? runner.plugin ?? PLUGIN;
    const type = typeOf(from);
    const lineOf = (key: string): number => runner.lineOf(...PLUGIN_CONFIG, key);
    const about = { ...aboutRunner(runner), from, pools: [], notes: [], runnerConfig: "" };
    if (type === undefined && !from.includes("fleetingd")) {
      const text = `nothing can be imported from ${from}`;
      const notes: Note[] = [
        { key: "plugin", line: runner.lineOf("autoscaler", "plugin"), fate: "to-do", text },
      ];
      this.result.runners.push({ ...about, notes });
      return;
    }
    this.hasFound = true;
    if (isImported(given)) {
      const text = "nothing is to be done: it uses a pool of the daemon's configuration already";
      const notes: Note[] = [{ key: "pool", line: lineOf("pool"), fate: "unneeded", text }];
      this.result.runners.push({ ...about, notes });
      return;
    }
    const name = this.#name(runner.name ?? "default");
    const made = newPool(name, given, type, lineOf);
    if ("findings" in made) {
      this.problems.push(...runner.problems(PLUGIN_CONFIG, made.findings));
      return;
    }
    this.#keep(name, made);
    const lines = [
      "[runners.autoscaler]",
      `  ${assignment("plugin", PLUGIN)}`,
      "  [runners.autoscaler.plugin_config]",
      ...Object.entries({ pool: name, ...made.kept }).map(([key, value]) => `    ${assignment(key, value)}`),
    ];
    const notes = [...made.notes, ...besideIt(runner, autoscaler, made)];
    this.result.runners.push({ ...about, pools: [name], notes, runnerConfig: lines.join("\n") });
  }

  #addExecutor(runner: RunnerEntry, custom: CustomExecutor): void {
    this.hasFound = true;
    const lineOf = (key: string): number => runner.lineOf("custom", key);
    const pools = new Map<string, string>();
    for (const distro of distrosOf(custom, this.#host.baseImages)) {
      const name = this.#name(distro);
      const made = newPool(name, keysOf(distro, runner.concurrent), "libvirt", () => runner.lineOf("custom"));
      // Of all that a machine is made of, only its image is from the file.
      const wrong = "findings" in made ? made.findings.map(({ text }) => ({ path: [], text })) : [];
      this.problems.push(...runner.problems(["custom", "prepare_args"], wrong));
      if ("pool" in made) this.#keep(name, made);
      pools.set(distro, name);
    }
    this.result.runners.push({
      ...aboutRunner(runner),
      from: "libvirt-gitlab-executor",
      pools: [...pools.values()],
      notes: executorNotes(custom, pools, lineOf),
      runnerConfig: executorLines(custom, this.#host.program).join("\n"),
    });
  }

  #keep(name: string, { source, pool }: NewPool): void {
    if (source !== undefined) this.result.config.sources[name] = source;
    this.result.config.pools[name] = pool;
  }

  /** A name that no section has yet, as near as can be to what somebody has called it. */
  #name(wanted: string): string {
    const plain = wanted
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, "-")
      .slice(0, LONGEST_NAME);
    const first = plain.replaceAll(/^-+|-+$/g, "") || "default";
    let name = first;
    for (let count = 2; this.#taken.has(name); count++) {
      const suffix = `-${count}`;
      name = `${first.slice(0, LONGEST_NAME - suffix.length)}${suffix}`;
    }
    this.#taken.add(name);
    return name;
  }
}

function aboutRunner(runner: RunnerEntry): Pick<ImportedRunner, "name" | "line"> {
  return { name: runner.name ?? null, line: runner.lineOf() };
}

function typeOf(plugin: string): SourceType | undefined {
  const [program = ""] = plugin.split("/").slice(-1);
  return (Object.keys(sourceTables) as SourceType[]).find((type) => program.includes(type));
}

/** Whether a `plugin_config` of ours names a pool instead of describing one. */
function isImported(given: Table): boolean {
  return "pool" in given || Object.keys(given).length === 0;
}

/** What else of the autoscaler matters to the pool; `fleetingd doctor` looks at the rest. */
function besideIt(
  runner: RunnerEntry,
  { connector_config: connector, max_instances: theirs }: Autoscaler,
  { maxInstances }: NewPool,
): Note[] {
  const credentials = CREDENTIALS.filter((key) => key in connector && connector[key] !== false).map(
    (key): Note => ({
      key: `connector_config.${key}`,
      line: runner.lineOf("autoscaler", "connector_config", key),
      fate: "to-do",
      text: "leave it out: each instance has a key of its own",
    }),
  );
  if (theirs <= maxInstances) return credentials;
  const text = `lower it to ${maxInstances}, which is what the pool may have, or raise that`;
  const line = runner.lineOf("autoscaler", "max_instances");
  return [...credentials, { key: "autoscaler.max_instances", line, fate: "to-do", text }];
}
