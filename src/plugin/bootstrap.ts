/**
 * Installs the running plugin where GitLab Runner looks for it, as every fleeting plugin does when it is started with
 * `bootstrap <repository>` from its OCI image.
 */
import { chmod, copyFile, mkdir, mkdtemp, realpath, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { FleetingdError, messageOf, systemErrorCode } from "../errors.ts";
import { LICENSES_FILE, ownDirectory } from "./own-files.ts";

const DEFAULT_DIRECTORY = "/plugins";
const DEFAULT_REGISTRY = "registry.gitlab.com";
const DEFAULT_NAMESPACE = "gitlab-org/fleeting/plugins";

/** Copies this program to `<plugins>/<repository>/<version>/plugin` unless it is there. @returns that folder */
export async function bootstrap(
  repository: string,
  version: string,
  env: NodeJS.ProcessEnv,
): Promise<string> {
  const root = env["FLEETING_PLUGIN_PATH"] || DEFAULT_DIRECTORY;
  const target = join(root, pluginPath(repository), version);
  if (!(await isThere(root))) {
    throw new FleetingdError("NOT_FOUND", `could not install the plugin: the folder ${root} does not exist`, {
      hint: "Make it, or set FLEETING_PLUGIN_PATH to another.",
    });
  }
  if (await isThere(target)) return target;
  const staging = await mkdtemp(join(root, "plugin"));
  try {
    await copySelf(staging);
    await chmod(staging, 0o755);
    await mkdir(join(target, ".."), { recursive: true });
    await rename(staging, target);
  } catch (error) {
    throw new FleetingdError("INTERNAL", `could not install the plugin to ${target}: ${messageOf(error)}`, {
      cause: error,
    });
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
  return target;
}

/**
 * The repository's folder, by the library's rules: registry and namespace may be left out, a tag is dropped, and a
 * capital letter is `!` and the small one.
 * @throws FleetingdError INVALID_ARGUMENT
 */
export function pluginPath(repository: string): string {
  const parts = repository.split("/");
  const [first = "", ...rest] = parts;
  const last = parts.at(-1) ?? "";
  const untagged = [...parts.slice(0, -1), last.split(":")[0] ?? ""].join("/");
  if (parts.some((part) => part === "" || part === "." || part === "..")) {
    throw new FleetingdError("INVALID_ARGUMENT", `"${repository}" is no repository of a plugin`, {
      hint: `Give one such as ${DEFAULT_REGISTRY}/group/fleetingd.`,
    });
  }
  const prefix =
    rest.length === 0
      ? `${DEFAULT_REGISTRY}/${DEFAULT_NAMESPACE}/`
      : first.includes(".")
        ? ""
        : `${DEFAULT_REGISTRY}/`;
  return `${prefix}${untagged}`.replace(/[A-Z]/g, (letter) => `!${letter.toLowerCase()}`);
}

async function copySelf(directory: string): Promise<void> {
  const own = await realpath(process.argv[1] ?? "");
  await copyFile(own, join(directory, "plugin"));
  await chmod(join(directory, "plugin"), 0o755);
  const licenses = join(await ownDirectory(), LICENSES_FILE);
  if (await isThere(licenses)) await copyFile(licenses, join(directory, LICENSES_FILE));
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return false;
    throw error;
  }
}
