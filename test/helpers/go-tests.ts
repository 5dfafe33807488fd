/** Runs tests that are written in Go, where another's Go library is the judge: GitLab's of a plugin, VMware's of the stand-in for its server. */
import { fileURLToPath } from "node:url";
import { execa } from "execa";

/** Go modules of their own, since the libraries' versions belong together. */
const MODULES = {
  provisioning: "../fleeting/provisioning",
  taskscaler: "../fleeting/taskscaler",
  "vcd-client": "../sources/vcd-client",
} as const;
export type GoModule = keyof typeof MODULES;

interface GoTestsOptions {
  module: GoModule;
  /** Besides this process's own environment. */
  env?: Readonly<Record<string, string>>;
  /** A regular expression of test names; all if not given. */
  run?: string;
  timeoutMs: number;
}

export interface PluginTestsOptions extends GoTestsOptions {
  /** The plugin's executable. */
  pluginPath: string;
  /** `plugin_config`. */
  config: unknown;
}

export const GO_BUILD_TIMEOUT_MS = 600_000;
// Go downloads a newer toolchain from the module proxy where the installed one (1.21 or later) is too old for a module.
export const GO_ENV = { GOTOOLCHAIN: "auto", GOFLAGS: "-mod=readonly" } as const;

/** Why the Go tests can't run here, or undefined if they can. */
export async function goMissing(): Promise<string | undefined> {
  const { exitCode, stdout } = await execa("go", ["version"], { reject: false, env: GO_ENV });
  if (exitCode !== 0) return "there is no Go toolchain";
  const [, minor = "0"] = /go1\.(\d+)/.exec(stdout) ?? [];
  return Number(minor) >= 21 ? undefined : `Go is older than 1.21: ${stdout}`;
}

/**
 * Downloads the modules and compiles the tests; needs the network once. Afterwards `runGoTests` needs none, so that it
 * can run in a network namespace.
 * @returns The test program.
 */
export async function buildGoTests(module: GoModule): Promise<string> {
  const program = fileURLToPath(
    new URL(`../../node_modules/.cache/fleetingd/${module}.test`, import.meta.url),
  );
  await execa("go", ["test", "-c", "-o", program, "."], {
    cwd: moduleDirectory(module),
    env: GO_ENV,
    timeout: GO_BUILD_TIMEOUT_MS,
  });
  return program;
}

/**
 * Builds the tests where needed and runs them.
 * @returns Their output.
 * @throws ExecaError with the output if one fails, or after `timeoutMs` with a dump of all goroutines.
 */
export async function runGoTests({ module, env, run, timeoutMs }: GoTestsOptions): Promise<string> {
  const program = await buildGoTests(module);
  const seconds = Math.ceil(timeoutMs / 1000);
  const args = ["-test.v", "-test.failfast", "-test.count=1", `-test.timeout=${seconds}s`];
  if (run !== undefined) args.push(`-test.run=${run}`);
  const { all } = await execa(program, args, {
    all: true,
    cwd: moduleDirectory(module),
    env: { ...env },
    // Go's own timeout comes first and says where it hangs.
    timeout: timeoutMs + 10_000,
  });
  return all;
}

/** The same with a plugin that is tested. */
export function runPluginTests({ pluginPath, config, env, ...options }: PluginTestsOptions): Promise<string> {
  const plugin = { FLEETING_TEST_PLUGIN: pluginPath, FLEETING_TEST_CONFIG: JSON.stringify(config) };
  return runGoTests({ ...options, env: { ...env, ...plugin } });
}

function moduleDirectory(module: GoModule): string {
  return fileURLToPath(new URL(MODULES[module], import.meta.url));
}
