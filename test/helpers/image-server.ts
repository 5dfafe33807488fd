/**
 * A real HTTPS server with the tree of cloud-images.ubuntu.com: a certificate authority, a signing key, a disk with a file
 * system, a kernel and an initrd, all made here. Faults are given to it one by one.
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { appendFile, mkdir, open, readFile, writeFile } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { join } from "node:path";
import { systemErrorCode } from "../../src/errors.ts";
import { run } from "../../src/host/run.ts";
import { sha256OfFile } from "../../src/host/sha256.ts";
import { sleep } from "../../src/host/wait.ts";

export interface ServedRequest {
  path: string;
  range: string | undefined;
  status: number;
  /** Bytes of the body that were handed to the network. */
  bytes: number;
}

/** What a server does to a request instead of answering it well. */
export type Fault =
  | { kind: "status"; status: number }
  /** Closes the connection in the middle of the body. */
  | { kind: "truncate"; afterBytes: number }
  /** Sends that much, then nothing more, and keeps the connection. */
  | { kind: "stall"; afterBytes: number }
  /** Says no length, so only the checksum tells whether all came. */
  | { kind: "chunked" }
  /** Does something first, then answers well. */
  | { kind: "after"; action: () => Promise<void> }
  /** Always sends the whole file. */
  | { kind: "no range" };

interface PlannedFault {
  suffix: string;
  fault: Fault;
  times: number;
}

const CHUNK_BYTES = 64 * 1024;

export class ImageServer {
  readonly requests: ServedRequest[] = [];
  readonly #root: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #faults: PlannedFault[] = [];

  private constructor(root: string, server: Server) {
    this.#root = root;
    this.#server = server;
    server.on("secureConnection", (socket) => {
      this.#sockets.add(socket);
      // A client that is killed resets its connection.
      socket.on("error", () => socket.destroy());
      socket.on("close", () => this.#sockets.delete(socket));
    });
    server.on("tlsClientError", () => undefined);
  }

  /** Serves the files below `root` on 127.0.0.1, any free port. */
  static async start(root: string, certificate: { key: string; cert: string }): Promise<ImageServer> {
    const server = createServer({
      key: await readFile(certificate.key),
      cert: await readFile(certificate.cert),
    });
    const images = new ImageServer(root, server);
    server.on("request", (request, response) => {
      images.#answer(request, response).catch(() => response.destroy());
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return images;
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The next `times` requests for paths that end in `suffix` meet this fault. */
  plan(suffix: string, fault: Fault, times = 1): void {
    this.#faults.push({ suffix, fault, times });
  }

  /** Forgets the requests so far, and the faults that nobody has met. */
  reset(): void {
    this.requests.length = 0;
    this.#faults = [];
  }

  /** The requests for paths that end in `suffix`. */
  requestsFor(suffix: string): ServedRequest[] {
    return this.requests.filter(({ path }) => path.endsWith(suffix));
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = decodeURIComponent(new URL(request.url ?? "/", this.url).pathname);
    const served: ServedRequest = { path, range: request.headers.range, status: 0, bytes: 0 };
    this.requests.push(served);
    const fault = this.#nextFault(path);
    const end = (status: number): void => {
      served.status = status;
      response.writeHead(status).end();
    };
    if (fault?.kind === "status") return end(fault.status);
    if (fault?.kind === "after") await fault.action();
    if (path.endsWith("/")) return end(200);
    const content = await readIfThere(join(this.#root, path));
    if (content === undefined) return end(404);
    const offset =
      fault?.kind === "no range" ? 0 : Number(/^bytes=(\d+)-$/.exec(served.range ?? "")?.[1] ?? 0);
    const headers: Record<string, string> = {};
    if (offset > 0 && offset >= content.length) {
      response.setHeader("content-range", `bytes */${content.length}`);
      return end(416);
    }
    if (offset > 0) headers["content-range"] = `bytes ${offset}-${content.length - 1}/${content.length}`;
    if (fault?.kind !== "chunked") headers["content-length"] = String(content.length - offset);
    served.status = offset > 0 ? 206 : 200;
    response.writeHead(served.status, headers);
    await this.#send(content.subarray(offset), served, response, fault);
  }

  async #send(
    body: Buffer,
    served: ServedRequest,
    response: ServerResponse,
    fault: Fault | undefined,
  ): Promise<void> {
    const cut = fault?.kind === "truncate" || fault?.kind === "stall" ? fault.afterBytes : body.length;
    for (let at = 0; at < cut && !response.destroyed; at += CHUNK_BYTES) {
      const chunk = body.subarray(at, Math.min(at + CHUNK_BYTES, cut));
      await new Promise<void>((resolve) => {
        response.once("close", resolve);
        response.write(chunk, () => {
          response.off("close", resolve);
          resolve();
        });
      });
      served.bytes += chunk.length;
    }
    if (fault?.kind === "stall") return;
    if (fault?.kind !== "truncate") return void response.end();
    // What was written must get out before the end comes.
    await sleep(50);
    response.destroy();
  }

  #nextFault(path: string): Fault | undefined {
    const planned = this.#faults.find(({ suffix, times }) => times > 0 && path.endsWith(suffix));
    if (planned === undefined) return undefined;
    planned.times -= 1;
    return planned.fault;
  }
}

/** A certificate authority, and a server's certificate for 127.0.0.1 that it has signed. */
export async function makeCertificates(
  directory: string,
): Promise<{ ca: string; key: string; cert: string }> {
  const path = (name: string): string => join(directory, name);
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const openssl = (...args: string[]): Promise<unknown> => run("openssl", args);
  const ca = ["-keyout", path("ca.key"), "-out", path("ca.pem"), "-days", "2", "-subj", "/CN=test authority"];
  await openssl("req", "-x509", ...newKey, ...ca);
  await openssl(
    "req",
    ...newKey,
    "-keyout",
    path("server.key"),
    "-out",
    path("server.csr"),
    "-subj",
    "/CN=mirror",
  );
  await writeFile(path("server.ext"), "subjectAltName=IP:127.0.0.1\n");
  const issuer = ["-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-CAcreateserial", "-days", "2"];
  const files = ["-in", path("server.csr"), "-out", path("server.pem"), "-extfile", path("server.ext")];
  await openssl("x509", "-req", ...issuer, ...files);
  return { ca: path("ca.pem"), key: path("server.key"), cert: path("server.pem") };
}

/** An OpenPGP key without a passphrase, and the keyring with its public half. */
export class SigningKey {
  readonly keyring: string;
  readonly #home: string;

  private constructor(home: string) {
    this.#home = home;
    this.keyring = `${home}.gpg`;
  }

  /** @param home a folder to be made; its path must be short, for gpg's agent has its sockets there */
  static async make(home: string): Promise<SigningKey> {
    const key = new SigningKey(home);
    await mkdir(home, { mode: 0o700 });
    await key.#gpg("--passphrase", "", "--quick-generate-key", "Test images", "ed25519", "sign", "never");
    await key.#gpg("--output", key.keyring, "--export");
    return key;
  }

  /** Writes `<path>.gpg`. */
  async sign(path: string): Promise<void> {
    await this.#gpg("--yes", "--output", `${path}.gpg`, "--detach-sign", path);
  }

  /** Ends gpg's agent. */
  async close(): Promise<void> {
    await run("gpgconf", ["--homedir", this.#home, "--kill", "all"]);
  }

  async #gpg(...args: string[]): Promise<void> {
    await run("gpg", ["--batch", "--quiet", "--homedir", this.#home, ...args]);
  }
}

export interface DiskFiles {
  /** The file system as it is. */
  raw: string;
  qcow2: string;
  /** The same content in other bytes. */
  uncompressed: string;
}

/** A small ext4 whose content does not compress, raw and as compressed qcow2. */
export async function makeDisk(directory: string, contentMiB: number): Promise<DiskFiles> {
  const content = join(directory, "content");
  await mkdir(content);
  for (let part = 0; part < contentMiB; part++) {
    await writeFile(join(content, `random-${part}`), randomBytes(1024 * 1024));
  }
  const raw = join(directory, "disk.raw");
  await run("mke2fs", ["-q", "-t", "ext4", "-F", "-d", content, raw, `${contentMiB * 2 + 16}M`]);
  const qcow2 = join(directory, "disk.qcow2");
  await run("qemu-img", ["convert", "-c", "-f", "raw", "-O", "qcow2", raw, qcow2]);
  const uncompressed = join(directory, "uncompressed.qcow2");
  await run("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", raw, uncompressed]);
  return { raw, qcow2, uncompressed };
}

/**
 * Puts a build in place below `root`, as the real server has it.
 * @param folder `releases/24.04/release` or `noble/current`
 * @param stem `ubuntu-24.04` or `noble`
 */
export async function publishBuild(
  root: string,
  build: { folder: string; stem: string; qcow2: string; kernel: string; initrd: string; key: SigningKey },
): Promise<void> {
  const folder = join(root, build.folder);
  const unpacked = join(folder, "unpacked");
  await mkdir(unpacked, { recursive: true });
  const stem = `${build.stem}-server-cloudimg-amd64`;
  await writeFile(join(folder, `${stem}.img`), await readFile(build.qcow2));
  await writeFile(join(unpacked, `${stem}-vmlinuz-generic`), build.kernel);
  await writeFile(join(unpacked, `${stem}-initrd-generic`), build.initrd);
  // Others stand in the real list too.
  await writeFile(join(folder, `${stem}.manifest`), `linux-image\t${build.kernel}\n`);
  await signSums(folder, [`${stem}.img`, `${stem}.manifest`], build.key);
  await signSums(unpacked, [`${stem}-vmlinuz-generic`, `${stem}-initrd-generic`], build.key);
}

async function signSums(folder: string, names: readonly string[], key: SigningKey): Promise<void> {
  const path = join(folder, "SHA256SUMS");
  await (await open(path, "w")).close();
  for (const name of names) await appendFile(path, `${await sha256OfFile(join(folder, name))} *${name}\n`);
  await key.sign(path);
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}
