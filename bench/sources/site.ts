/** What the benchmark of sources asks of each cloud, and what several of them need for it. */
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { generateSshKeyPair } from "../../src/cloudinit/keys.ts";
import type { Cloud, MachineData, Owner } from "../../src/sources/remote/cloud.ts";

export interface CloudBench {
  readonly name: string;
  /** How many are made. */
  readonly machines: number;
  /** At a time: the source's own defaults. */
  readonly creates: number;
  readonly deletes: number;
  /** Runs before those that count, of either way, where a server is slow at first. Default 0. */
  readonly warmups?: number;
  start(): Promise<Site>;
  startWithMany(count: number): Promise<ManySite>;
}

/** A server where nothing is as yet. */
export interface Site {
  /** Our source, which knows nothing yet. */
  open(): Promise<Cloud>;
  /** How often the server was asked for something. */
  requests(): number | Promise<number>;
  /** The way of the program that this replaces: makes as many, says when all can be used, and deletes them. */
  original(made: () => void): Promise<void>;
  stop(): Promise<void>;
}

/** A server that has many machines, or the answers ready that it would give then. */
export interface ManySite {
  cloud: Cloud;
  /** Processor time that the server has used, if it is in this process and uses any. */
  serverMs?(): number;
  stop(): Promise<void>;
}

export const OWNER: Owner = { daemon: "bench", pool: "p" };
export const TIMEOUT_MS = 600_000;

export function idsOf(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `fl-bench${index}`);
}

/** So many at a time. */
export async function inParts<T>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = [...items];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** @returns what its deletion needs */
export async function make(cloud: Cloud, id: string): Promise<MachineData> {
  let data: MachineData = {};
  const save = async (saved: MachineData): Promise<void> => {
    data = saved;
  };
  const { publicKey } = generateSshKeyPair(id);
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  await cloud.create({ id, owner: OWNER, authorizedKey: publicKey, save, phase: () => undefined, signal });
  return data;
}

const ONE = "fl-one";

/** Makes one machine, and closes. @returns what the server then says of it, so many times, each time with another id */
export async function listOfMany(
  cloud: Cloud,
  count: number,
  list: () => Promise<readonly unknown[]>,
): Promise<unknown[]> {
  await make(cloud, ONE);
  await cloud.close?.();
  const text = JSON.stringify((await list())[0]);
  return idsOf(count).map((id) => JSON.parse(text.replaceAll(ONE, id)) as unknown);
}

const MS_PER_TICK = 10;

/** What this process, and the programs that it has run, have used of the processors. */
export async function processorMs(): Promise<number> {
  const { user, system } = process.cpuUsage();
  const [, fields = ""] = (await readFile("/proc/self/stat", "utf8")).split(") ");
  const [childUser = 0, childSystem = 0] = fields.split(" ").slice(13, 15).map(Number);
  return (user + system) / 1_000 + (childUser + childSystem) * MS_PER_TICK;
}

export interface Answer {
  body: string;
  headers?: Readonly<Record<string, string>>;
}

/** An HTTP server that has an answer ready for each `GET /path` and `POST /path`. */
export async function serveAnswers(
  answersAt: (url: string) => Readonly<Record<string, Answer>>,
): Promise<{ url: string; stop(): Promise<void> }> {
  const server = createServer((request, response) => {
    const answer = answers[`${request.method} ${request.url?.split("?")[0]}`];
    request.resume();
    response.writeHead(answer === undefined ? 404 : 200, answer?.headers);
    response.end(answer?.body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const answers = answersAt(url);
  return {
    url,
    async stop() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
