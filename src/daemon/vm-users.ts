/** Whether the uids that are configured for VMs' processes are really nobody's. */
import { FleetingdError } from "../errors.ts";
import { readTextIfExists } from "../host/files.ts";
import { formatUserRange, type UserRange } from "../hypervisor/users.ts";

/** Where a host says who has which numbers: one a line, with these columns. */
const NUMBERS = [
  { path: "/etc/passwd", what: "the user", columns: "id" },
  { path: "/etc/group", what: "the group", columns: "id" },
  { path: "/etc/subuid", what: "subordinate uids of", columns: "first, count" },
  { path: "/etc/subgid", what: "subordinate gids of", columns: "first, count" },
] as const;
/** Which numbers there are at all in this user namespace. */
const MAPS = ["/proc/self/uid_map", "/proc/self/gid_map"];

/** @throws FleetingdError INVALID_CONFIG: somebody has one of them, or there are none such here */
export async function checkVmUsers(range: UserRange | undefined): Promise<void> {
  if (range === undefined) return;
  for (const { path, what, columns } of NUMBERS) {
    const owner = findOwner((await readTextIfExists(path)) ?? "", columns, range);
    if (owner !== undefined) throw refusal(range, `${what} ${owner} has some of them (${path})`);
  }
  for (const path of MAPS) {
    const map = await readTextIfExists(path);
    if (map !== undefined && !isMapped(map, range)) {
      throw refusal(range, `not all of them exist here, where uids are mapped (${path})`);
    }
  }
}

/** The name at the beginning of the first line whose numbers touch the range. */
export function findOwner(
  text: string,
  columns: (typeof NUMBERS)[number]["columns"],
  range: UserRange,
): string | undefined {
  for (const line of text.split("\n")) {
    const [name = "", second = "", third = ""] = line.split(":");
    // Of a user or group the second column is the password's.
    const first = columns === "id" ? third : second;
    const last = Number(first) + (columns === "id" ? 0 : Number(third) - 1);
    if (/^\d+$/.test(first) && Number(first) <= range.last && last >= range.first) return name;
  }
  return undefined;
}

/** Whether all of the range lies within one line of a map: first inside, first outside, count. */
export function isMapped(map: string, { first, last }: UserRange): boolean {
  return map.split("\n").some((line) => {
    const [inside = Number.NaN, , count = 0] = line.trim().split(/\s+/).map(Number);
    return first >= inside && last < inside + count;
  });
}

function refusal(range: UserRange, reason: string): FleetingdError {
  return new FleetingdError(
    "INVALID_CONFIG",
    `VMs' processes cannot run as the users ${formatUserRange(range)}: ${reason}`,
    { hint: 'Set daemon.vm_uids to a range that nobody has, or to "none".' },
  );
}
