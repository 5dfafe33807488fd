/** Names of network interfaces that come from outside, before they get into rules, paths and batch files. */
import { FleetingdError } from "../errors.ts";

// Linux forbids only "/", white space and more than 15 bytes. Quotes and a final "*" mean something to nft, and
// every real name is made of these characters.
const PLAIN_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}$/;

/**
 * The name itself, if it is a plain one.
 * @throws FleetingdError INVALID_CONFIG
 */
export function checkInterfaceName(name: string): string {
  if (PLAIN_NAME.test(name)) return name;
  throw new FleetingdError(
    "INVALID_CONFIG",
    `${JSON.stringify(name)} is not the name of a network interface`,
    { hint: "A name has 1 to 15 letters, digits, dots, dashes or underscores; `ip link` lists them." },
  );
}
