/** A server in a root of its own, in namespaces that end with it; but for the network, which is the test's. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { withTimeout } from "../../src/host/wait.ts";

export interface ServerNamespaces {
  /** Runs a command beside the server, by a shell, and answers what it prints; `start`, `stop` and `kill` mean the server. */
  run(command: string): Promise<string>;
  /** Ends everything in them. */
  end(): Promise<void>;
}

/** What busybox's DHCP client calls in a guest. */
export const UDHCPC_SCRIPT = fileURLToPath(new URL("server-namespaces/udhcpc.sh", import.meta.url));

const SCRIPT = fileURLToPath(new URL("server-namespaces/namespaces.sh", import.meta.url));
const NAMESPACES = [
  "--mount",
  "--pid",
  "--fork",
  "--uts",
  "--ipc",
  "--kill-child",
  "--propagation",
  "private",
];
const COMMAND_TIMEOUT_MS = 120_000;

/** @param options.root A folder with a distribution, not written to. @param options.state A folder that is `home` inside. */
export function startNamespaces(options: {
  root: string;
  state: string;
  home: string;
  server: readonly string[];
}): ServerNamespaces {
  const { root, state, home, server } = options;
  const child = spawn("unshare", [...NAMESPACES, SCRIPT, root, state, home, ...server], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  return {
    run: createShell(child),
    async end() {
      const exited = once(child, "exit");
      child.stdin?.end();
      await withTimeout(exited, COMMAND_TIMEOUT_MS, "the server's namespaces to end");
    },
  };
}

/** One command after the other, each answered by what it printed and a line with its status. */
function createShell(child: ChildProcess): (command: string) => Promise<string> {
  let errors = "";
  child.stderr?.on("data", (text: Buffer) => {
    errors = `${errors}${text}`.slice(-4_000);
  });
  if (child.stdout === null) throw new Error("the namespaces have no standard output");
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async (command: string): Promise<string> => {
    child.stdin?.write(`${command}\n`);
    for (let output = ""; ; ) {
      const { value, done } = await lines.next();
      if (done === true) throw new Error(`the server's namespaces ended: ${errors}`);
      const status = /^done (\d+)$/.exec(value)?.[1];
      if (status === "0") return output;
      if (status !== undefined) throw new Error(`${command} ended with ${status}: ${output}${errors}`);
      output += `${value}\n`;
    }
  };
  let queue: Promise<unknown> = Promise.resolve();
  return (command) => {
    const answer = queue.then(() => withTimeout(ask(command), COMMAND_TIMEOUT_MS, command));
    queue = answer.catch(() => undefined);
    return answer;
  };
}
