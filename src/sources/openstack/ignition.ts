/** A key for a machine that is set up by Ignition (Flatcar, Fedora CoreOS), put into the configuration that it has anyway. */
import * as z from "zod";
import { FleetingdError, messageOf } from "../../errors.ts";

/** For a configuration of our own; any Ignition that speaks version 3 understands it. */
const OLDEST_VERSION = "3.0.0";

const schema = z.looseObject({
  ignition: z.looseObject({ version: z.string() }),
  passwd: z
    .looseObject({
      users: z
        .array(z.looseObject({ name: z.string(), sshAuthorizedKeys: z.array(z.string()).optional() }))
        .optional(),
    })
    .optional(),
});

/**
 * @param config An Ignition configuration of version 3, JSON; empty: none.
 * @throws FleetingdError INVALID_CONFIG
 */
export function addIgnitionKey(config: string, username: string, authorizedKey: string): string {
  const { passwd, ...rest } = config.trim() === "" ? { ignition: { version: OLDEST_VERSION } } : read(config);
  const users = passwd?.users ?? [];
  const own = users.find(({ name }) => name === username) ?? { name: username };
  const withKey = { ...own, sshAuthorizedKeys: [...(own.sshAuthorizedKeys ?? []), authorizedKey] };
  const all = users.includes(own)
    ? users.map((user) => (user === own ? withKey : user))
    : [...users, withKey];
  return JSON.stringify({ ...rest, passwd: { ...passwd, users: all } });
}

function read(config: string): z.output<typeof schema> {
  let value: unknown;
  try {
    value = JSON.parse(config);
  } catch (error) {
    throw invalid(`it is no JSON (${messageOf(error)})`);
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw invalid(`${issue?.path.join(".")}: ${issue?.message}`);
  }
  const { version } = parsed.data.ignition;
  if (!version.startsWith("3.")) throw invalid(`its version is ${version}, not 3`);
  return parsed.data;
}

function invalid(what: string): FleetingdError {
  return new FleetingdError("INVALID_CONFIG", `server_spec.user_data is no Ignition configuration: ${what}`, {
    hint: "Write one of version 3 (butane makes it from YAML), leave user_data out, or set use_ignition to false.",
  });
}
