/** Machines for the stand-in daemon: real SSH servers on a loopback port, which run commands on this host. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import ssh2, { type Connection, type ServerChannel, type Server as SshServer } from "ssh2";
import { generateSshKeyPair } from "../../src/cloudinit/keys.ts";
import type { StandInMachines } from "./stand-in-daemon.ts";

const { Server, utils } = ssh2;
const ADDRESS = "127.0.0.1";
const USERNAME = "ubuntu";

export interface SshMachines extends StandInMachines {
  /** Those that run. */
  readonly running: ReadonlyMap<string, SshServer>;
}

/** Each machine has its own key pair and logs in nobody else. */
export function createSshMachines(): SshMachines {
  const running = new Map<string, SshServer>();
  return {
    running,
    create: async (id) => {
      const [host, user] = [generateSshKeyPair("host"), generateSshKeyPair("user")];
      const server = new Server({ hostKeys: [host.privateKey] }, (client) =>
        serveClient(client, user.publicKey),
      );
      server.listen(0, ADDRESS);
      await once(server, "listening");
      running.set(id, server);
      const address = server.address();
      if (address === null || typeof address === "string") throw new Error("the SSH server has no port");
      return {
        username: USERNAME,
        key: Buffer.from(user.privateKey),
        internalAddress: ADDRESS,
        externalAddress: ADDRESS,
        port: address.port,
      };
    },
    destroy: async (id) => {
      const server = running.get(id);
      if (server === undefined) throw new Error(`there is no machine ${id}`);
      running.delete(id);
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function serveClient(client: Connection, publicKey: string): void {
  const allowed = utils.parseKey(publicKey);
  if (allowed instanceof Error) throw allowed;
  client.on("error", () => undefined);
  client.on("authentication", (context) => {
    const known =
      context.method === "publickey" &&
      context.username === USERNAME &&
      context.key.data.equals(allowed.getPublicSSH()) &&
      (context.signature === undefined ||
        allowed.verify(context.blob ?? Buffer.alloc(0), context.signature, context.hashAlgo) === true);
    if (known) context.accept();
    else context.reject(["publickey"]);
  });
  client.on("session", (accept) => {
    accept().on("exec", (acceptExec, _reject, { command }) => run(acceptExec(), command));
  });
}

function run(channel: ServerChannel, command: string): void {
  // An SSH server gives a command to the user's shell.
  const child = spawn("/bin/sh", ["-c", command], { stdio: ["pipe", "pipe", "pipe"] });
  channel.pipe(child.stdin);
  child.stdout.pipe(channel, { end: false });
  child.stderr.pipe(channel.stderr, { end: false });
  child.stdin.on("error", () => undefined);
  child.once("close", (code) => {
    channel.exit(code ?? 255);
    channel.end();
  });
}
