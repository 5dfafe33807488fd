/** What virsh says when something fails, and what that means: its exit code is always 1, and libvirt's own codes are not told. */
import { type ErrorCode, FleetingdError } from "../../errors.ts";

export interface Failure {
  /** What virsh was at: `Failed to create domain from …`. */
  step: string | undefined;
  /** What libvirt has said. */
  text: string;
}

const STEP = /^failed to /i;
/** Of these alone virsh does not always say the reason. */
const LOOKUP = /^failed to get (domain|vol|pool) /;
/** What is to be removed and is not there. */
const ABSENT =
  /^failed to get (domain|vol|pool) |(Domain|Storage volume|Storage pool) not found|metadata not found|domain is not running/;

const MEANINGS: readonly [RegExp, ErrorCode, hint?: string][] = [
  [
    /No space left|[Qq]uota exceeded|[Cc]annot allocate memory|not enough (free )?(space|memory)/,
    "EXHAUSTED",
    "Make room in the storage pool or the host's memory, or lower the source's max_instances.",
  ],
  [
    // All that is told to a client whose certificate the server does not want.
    /TLS confirmation|TLS handshake failed/,
    "PERMISSION",
    "The server refuses the client certificate: look at tls_allowed_dn_list in its libvirtd.conf, and at its log.",
  ],
  [
    /authenticat|access denied|[Pp]ermission denied|polkit|verification .*failed|certificate (is|has|validation)|not authorized/,
    "PERMISSION",
    "The daemon's user must be allowed to use libvirt there: try `virsh --connect URI list` with the same uri.",
  ],
  [
    /Cannot (recv|send|write|read) data|[Uu]nable to (connect|resolve)|Failed to connect socket|End of file|socket is closed|[Dd]isconnected|keepalive|Connection (reset|refused|timed out)|Broken pipe|Cannot read (CA )?certificate/,
    "UNAVAILABLE",
  ],
  [/^failed to get domain /, "NOT_FOUND"],
  [
    /storage pool .* is not active/,
    "INVALID_CONFIG",
    "Start it and let it start with the host: `virsh pool-start` and `virsh pool-autostart`.",
  ],
  [
    /network .* is not active/,
    "INVALID_CONFIG",
    "Start it and let it start with the host: `virsh net-start` and `virsh net-autostart`.",
  ],
  [
    /not found|XML (error|document)|[Uu]nsupported|not supported|invalid argument|[Cc]annot (open|access|get)|Could not open|malformed/,
    "INVALID_CONFIG",
  ],
];

/** The failures in what virsh has written to its standard error: a line on what it was at, and one on the reason, if it has any. */
export function failuresIn(stderr: string): Failure[] {
  const lines = stderr.split("\n").flatMap((line) => /^error: (.*)$/.exec(line)?.[1]?.trim() ?? []);
  const failures: Failure[] = [];
  for (let index = 0; index < lines.length; index++) {
    const [line = "", next] = [lines[index], lines[index + 1]];
    const isStep = STEP.test(line) && next !== undefined && !(LOOKUP.test(line) && STEP.test(next));
    failures.push(isStep ? { step: line, text: next } : { step: undefined, text: line });
    if (isStep) index++;
  }
  return failures;
}

export function isAbsent({ text }: Failure): boolean {
  return ABSENT.test(text);
}

/** The failure as an error for people; `where` is what it was asked of. */
export function errorOf({ step, text }: Failure, where: string): FleetingdError {
  const isConnecting = step !== undefined && /^failed to connect to the hypervisor/.test(step);
  const found = MEANINGS.find(([pattern]) => pattern.test(text));
  const [, code, hint] = found ?? [undefined, isConnecting ? "UNAVAILABLE" : "HYPERVISOR_FAILED", undefined];
  const said = isConnecting ? `${where} can't be asked: ${text}` : `${where} says: ${text}`;
  return new FleetingdError(isConnecting && code === "INVALID_CONFIG" ? "UNAVAILABLE" : code, said, { hint });
}
