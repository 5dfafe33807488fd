/**
 * What answers where a cloud without hypervisors says that its machines are: one SSH server for a whole subnet, which lets in
 * whom the user data of the machine at that address lets in, and runs commands on this host.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import ssh2, { type AuthContext, type Connection, type ServerChannel } from "ssh2";
import { generateSshKeyPair } from "../../src/cloudinit/keys.ts";
import { run } from "../../src/host/run.ts";
import { inTestNamespace } from "./namespace.ts";

const { Server, utils } = ssh2;
const SSH_PORT = 22;

/** Who may log in to a machine. */
export interface Guest {
  username: string;
  /** `ssh-ed25519 AAAA…`. */
  authorizedKeys: readonly string[];
  /** Undefined: none is accepted. */
  password?: string | undefined;
}

export interface Guests {
  /** How many logins there were. */
  readonly logins: number;
  stop(): Promise<void>;
}

/**
 * Gives this namespace all addresses of `subnet`.
 * @param guestAt who lives at an address; undefined: nobody, and the connection is closed
 */
export async function startGuests(
  subnet: string,
  guestAt: (address: string) => Promise<Guest | undefined>,
): Promise<Guests> {
  if (!inTestNamespace())
    throw new Error("guests need a namespace of their own: their addresses would be the host's");
  await run("ip", ["address", "replace", subnet, "dev", "lo"]);
  let logins = 0;
  const host = generateSshKeyPair("host");
  const sockets = new Set<Socket>();
  // By what the SSH server knows of a connection: where it comes from.
  const asked = new Map<string, Guest>();
  const ssh = new Server({ hostKeys: [host.privateKey] }, (client, { ip, port }) => {
    const guest = asked.get(`${ip} ${port}`);
    if (guest === undefined) return client.end();
    return serve(client, guest, () => {
      logins++;
    });
  });
  const listener = createServer(async (socket) => {
    const from = `${socket.remoteAddress} ${socket.remotePort}`;
    sockets.add(socket);
    socket
      .on("error", () => undefined)
      .on("close", () => {
        sockets.delete(socket);
        asked.delete(from);
      });
    const guest = await guestAt(socket.localAddress ?? "");
    if (guest === undefined) return socket.destroy();
    asked.set(from, guest);
    return ssh.injectSocket(socket);
  });
  listener.listen(SSH_PORT, "0.0.0.0");
  await once(listener, "listening");
  return {
    get logins() {
      return logins;
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => listener.close(resolve));
      await run("ip", ["address", "delete", subnet, "dev", "lo"]);
    },
  };
}

function serve(client: Connection, guest: Guest, onLogin: () => void): void {
  client.on("error", () => undefined);
  client.on("authentication", (context) => {
    if (isAllowed(context, guest)) context.accept();
    else context.reject(["publickey", "password"]);
  });
  client.on("ready", onLogin);
  client.on("session", (accept) => {
    accept().on("exec", (acceptExec, _reject, { command }) => execute(acceptExec(), command, guest.username));
  });
}

function isAllowed(context: AuthContext, guest: Guest): boolean {
  if (context.username !== guest.username) return false;
  if (context.method === "password")
    return guest.password !== undefined && context.password === guest.password;
  if (context.method !== "publickey") return false;
  const offered = context.key.data;
  return guest.authorizedKeys.some((text) => {
    const key = utils.parseKey(text);
    if (key instanceof Error || !offered.equals(key.getPublicSSH())) return false;
    return (
      context.signature === undefined ||
      key.verify(context.blob ?? Buffer.alloc(0), context.signature, context.hashAlgo) === true
    );
  });
}

function execute(channel: ServerChannel, command: string, username: string): void {
  // The user is none of this host, but who asks is told what they expect.
  const child = spawn("/bin/sh", ["-c", `id() { echo "$GUEST_USER"; }; ${command}`], {
    env: { ...process.env, GUEST_USER: username },
    stdio: ["ignore", "pipe", "pipe"],
  });
  child.stdout.pipe(channel, { end: false });
  child.stderr.pipe(channel.stderr, { end: false });
  child.once("close", (code) => {
    channel.exit(code ?? 255);
    channel.end();
  });
}
