/**
 * The demo's outside: a network namespace of its own that stands in for the internet. It answers HTTP with
 * the address that it sees, which must be the host's and never a VM's.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { FleetingdError } from "../../errors.ts";
import { type ChildProcess, startChild } from "../../host/child.ts";
import { run } from "../../host/run.ts";
import { waitFor, withTimeout } from "../../host/wait.ts";

/** Addresses that documentation may use (RFC 5737): nobody's, so nothing real can be reached by mistake. */
export const OUTSIDE_ADDRESS = "203.0.113.1";
export const EGRESS_ADDRESS = "203.0.113.2";
export const EGRESS_INTERFACE = "egress0";
/** Tells `fleetingd demo` that it is the outside's process. */
export const OUTSIDE_ROLE = "outside";

const PEER_INTERFACE = "world0";
const STARTED = "started";
const READY = "ready";
const START_TIMEOUT_MS = 20_000;

/** Creates the namespace, joins it to ours by a veth pair, and routes everything through that. */
export async function startOutside(command: readonly string[]): Promise<ChildProcess> {
  const child = await startChild("unshare", ["--net", "--", ...command], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  if (child.stdout === null)
    throw new FleetingdError("INTERNAL", "the demo's outside has no standard output");
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  // Only once our program runs has `unshare` given it its namespace.
  await withTimeout(expectLine(lines, STARTED), START_TIMEOUT_MS, "the demo's outside");
  const batch = [
    `link add ${EGRESS_INTERFACE} type veth peer name ${PEER_INTERFACE}`,
    `address add ${EGRESS_ADDRESS}/24 dev ${EGRESS_INTERFACE}`,
    `link set ${EGRESS_INTERFACE} up`,
    `link set ${PEER_INTERFACE} netns ${child.pid}`,
    `route add default via ${OUTSIDE_ADDRESS}`,
  ];
  await run("ip", ["-batch", "-"], { input: `${batch.join("\n")}\n` });
  await withTimeout(expectLine(lines, READY), START_TIMEOUT_MS, "the demo's outside");
  return child;
}

async function expectLine(lines: AsyncIterator<string>, expected: string): Promise<void> {
  const { value, done } = await lines.next();
  if (done !== true && value === expected) return;
  throw new FleetingdError("INTERNAL", "the demo's outside ended at its start");
}

/** The outside's own process: serves until its standard input ends. */
export async function serveOutside(): Promise<number> {
  process.stdout.write(`${STARTED}\n`);
  const present = async () => {
    const { exitCode } = await run("ip", ["link", "show", PEER_INTERFACE], { acceptedExitCodes: [0, 1] });
    return exitCode === 0 ? true : undefined;
  };
  await waitFor(present, {
    timeoutMs: START_TIMEOUT_MS,
    intervalMs: 10,
    what: `the interface ${PEER_INTERFACE}`,
  });
  const batch = [
    "link set lo up",
    `address add ${OUTSIDE_ADDRESS}/24 dev ${PEER_INTERFACE}`,
    `link set ${PEER_INTERFACE} up`,
  ];
  await run("ip", ["-batch", "-"], { input: `${batch.join("\n")}\n` });
  const server = createServer((request, response) => response.end(`${request.socket.remoteAddress}\n`));
  server.listen(80, OUTSIDE_ADDRESS);
  await once(server, "listening");
  process.stdout.write(`${READY}\n`);
  process.stdin.resume();
  await once(process.stdin, "end");
  server.close();
  return 0;
}
