/** Finds out how to log in to a cloud: from `clouds.yaml` with the files beside it, or from the environment. */
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { parse } from "yaml";
import { FleetingdError, messageOf } from "../../errors.ts";
import { readTextIfExists } from "../../host/files.ts";
import { type CloudAccess, type RawCloud, understandCloud } from "./access.ts";
import type { OpenStackConfig } from "./config.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** @throws FleetingdError INVALID_CONFIG */
export async function findCloud(
  config: Pick<OpenStackConfig, "cloud" | "cloudsConfig" | "authFromEnv">,
  environment: Environment,
): Promise<CloudAccess> {
  const { cloud = environment["OS_CLOUD"] } = config;
  if (config.authFromEnv || cloud === undefined) return fromEnvironment(environment);
  const path = await findFile(config.cloudsConfig, environment);
  const clouds = await readClouds(path, "clouds");
  const own = clouds[cloud];
  const where = `the cloud ${JSON.stringify(cloud)} in ${path}`;
  if (!isTable(own)) {
    const names = Object.keys(clouds).map((name) => JSON.stringify(name));
    throw new FleetingdError("INVALID_CONFIG", `there is no cloud ${JSON.stringify(cloud)} in ${path}`, {
      hint: names.length === 0 ? "It has none at all." : `It has ${names.join(", ")}.`,
    });
  }
  // Passwords may stand in a file of their own, and what is public about a provider in another one.
  const secure = (await readClouds(securePath(path, environment), "clouds", true))[cloud];
  const profile = own["profile"] ?? own["cloud"];
  const known = await readClouds(join(dirname(path), "clouds-public.yaml"), "public-clouds", true);
  const base = typeof profile === "string" ? known[profile] : undefined;
  const merged = merge(merge(isTable(base) ? base : {}, own), isTable(secure) ? secure : {});
  return understandCloud(merged, `the OpenStack cloud ${cloud}`, where);
}

/** `OS_*` variables, as a cloud of `clouds.yaml`. */
function fromEnvironment(environment: Environment): CloudAccess {
  const value = (name: string): string | undefined => environment[`OS_${name}`] || undefined;
  const auth = Object.fromEntries(
    Object.entries(environment)
      .filter(([name, text]) => name.startsWith("OS_") && text)
      .map(([name, text]) => [name.slice("OS_".length).toLowerCase(), text]),
  );
  if (auth["auth_url"] === undefined) {
    throw new FleetingdError(
      "INVALID_CONFIG",
      "the daemon's environment does not say which OpenStack cloud to use",
      {
        hint: "Set cloud to a name in clouds.yaml, or give the daemon OS_AUTH_URL and the other OS_* variables (EnvironmentFile= in its unit).",
      },
    );
  }
  const raw: RawCloud = {
    auth,
    auth_type: value("AUTH_TYPE"),
    region_name: value("REGION_NAME"),
    interface: value("INTERFACE") ?? value("ENDPOINT_TYPE"),
    cacert: value("CACERT"),
    cert: value("CERT"),
    key: value("KEY"),
    ...(value("INSECURE") === "true" ? { verify: false } : {}),
  };
  return understandCloud(raw, `the OpenStack cloud ${auth["auth_url"]}`, "the daemon's environment (OS_*)");
}

async function findFile(given: string | undefined, environment: Environment): Promise<string> {
  const named = given ?? environment["OS_CLIENT_CONFIG_FILE"];
  const home = environment["XDG_CONFIG_HOME"] ?? join(homedir(), ".config");
  const usual = ["clouds.yaml", "clouds.yml"].flatMap((name) =>
    [home, "/etc"].map((directory) => join(directory, "openstack", name)),
  );
  const places = named === undefined ? usual : [named];
  for (const path of places) if ((await readTextIfExists(path)) !== undefined) return path;
  throw new FleetingdError("INVALID_CONFIG", `there is no ${places.join(", nor ")}`, {
    hint: "Set clouds_config to the path of clouds.yaml.",
  });
}

function securePath(path: string, environment: Environment): string {
  return (
    environment["OS_CLIENT_SECURE_FILE"] ??
    join(dirname(path), path.endsWith(".yml") ? "secure.yml" : "secure.yaml")
  );
}

async function readClouds(path: string, section: string, optional = false): Promise<Record<string, unknown>> {
  const text = await readTextIfExists(path);
  if (text === undefined && optional) return {};
  let content: unknown;
  try {
    content = parse(text ?? "");
  } catch (error) {
    // The parser quotes the line, and that may be the password's.
    throw new FleetingdError("INVALID_CONFIG", `${path} is no YAML: ${messageOf(error).split("\n", 1)[0]}`);
  }
  const clouds = isTable(content) ? content[section] : undefined;
  if (isTable(clouds)) return clouds;
  if (optional) return {};
  throw new FleetingdError("INVALID_CONFIG", `${path} has no section "${section}"`);
}

function merge(base: RawCloud, over: RawCloud): RawCloud {
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const before = merged[key];
    merged[key] = isTable(before) && isTable(value) ? merge(before, value) : value;
  }
  return merged;
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
