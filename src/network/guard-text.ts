/**
 * A second table that stays when somebody flushes the ruleset, and shuts every VM for as long as ours is away.
 *
 * Our own rules mark each packet that they let pass, right before the guard looks, and take the mark off right after:
 * nobody else ever sees it. Without our rules nothing is marked, so nothing passes from or to a VM.
 *
 * The guard is owned by a process (nftables' flag `owner`): `nft flush ruleset` passes over it, and it goes with that
 * process. The process then watches tables being deleted, and says so on its standard output.
 */
import { TAP_PREFIX } from "./slots.ts";

/** The name of the guard's table. */
export const GUARD_TABLE = "fleetingd_guard";

const MARK = 0x4000_0000;
const OTHER_BITS = 0xffff_ffff - MARK;
const ours = `"${TAP_PREFIX}*"`;

/** What the rules say right before `accept`. */
export const MARK_PASSED = `meta mark set meta mark | ${hex(MARK)}`;

/** The chains that take the mark off again, for the table with our rules. */
export const UNMARK_CHAINS = `\
	chain unmark_source {
		type filter hook prerouting priority raw + 2; policy accept;
		iifname ${ours} meta mark set meta mark & ${hex(OTHER_BITS)}
	}
	chain unmark_destination {
		type filter hook postrouting priority filter + 2; policy accept;
		oifname ${ours} meta mark set meta mark & ${hex(OTHER_BITS)}
	}
`;

/** What the guard's `nft -i` reads last: this never ends. */
export const WATCH_COMMAND = "monitor destroy tables\n";

/** What it reads before that, as one line. */
export const GUARD_COMMAND = `\
add table inet ${GUARD_TABLE} { flags owner; \
chain from_vm { type filter hook prerouting priority raw + 1; policy accept; iifname ${ours} meta mark & ${hex(MARK)} == 0 drop; }; \
chain to_vm { type filter hook postrouting priority filter + 1; policy accept; oifname ${ours} meta mark & ${hex(MARK)} == 0 drop; }; }
`;

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
