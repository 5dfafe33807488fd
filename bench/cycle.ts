/** What the pool itself does for one instance that is claimed, made and deleted, beside N others: no host has a part in it. */
import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ErrorCode, FleetingdError } from "../src/errors.ts";
import { removeTree } from "../src/host/files.ts";
import { waitFor } from "../src/host/wait.ts";
import { silentLogger } from "../src/log.ts";
import { type InstanceRecord, newRecord } from "../src/pool/instance.ts";
import { createJournal } from "../src/pool/journal.ts";
import { createLimiter } from "../src/pool/limiter.ts";
import { Pool } from "../src/pool/pool.ts";
import type { ConnectInfo, Source } from "../src/sources/source.ts";
import type { Measurement } from "./measurement.ts";

const POOL = "bench";
const OTHERS = "others";
const OWN = "own";
const TIMEOUT_MS = 30_000;
/** Beside the flushes of the records, which are the same for all. */
const FLAT = 1.3;

function cycle(vms: number): Measurement {
  const name = `cycle.${vms}.ms`;
  return {
    metrics: [vms === 10 ? { name } : { name, goal: { atMost: FLAT, of: "cycle.10.ms" } }],
    runs: 50,
    warmups: 10,
    async prepare() {
      const directory = await mkdtemp(join(tmpdir(), "bench-cycle-"));
      const pool = await createPool(directory, vms);
      return {
        async run() {
          const begunAt = performance.now();
          await pool.claim(OWN, 1);
          const [{ id = "" } = {}] = pool.list(OWN);
          await untilNot("UNAVAILABLE", () => pool.connectInfo(OWN, id));
          await pool.release(OWN, [id]);
          await untilNot("UNAVAILABLE", () => pool.connectInfo(OWN, id));
          return { [name]: performance.now() - begunAt };
        },
        async close() {
          await pool.stop();
          await removeTree(directory);
        },
      };
    },
  };
}

async function createPool(directory: string, vms: number): Promise<Pool> {
  const journal = createJournal(directory);
  const records = Array.from({ length: vms }, () => readyRecord());
  for (const record of records) {
    await mkdir(journal.directoryOf(record.id), { recursive: true });
    await writeFile(join(journal.directoryOf(record.id), "record.json"), JSON.stringify(record));
  }
  const pool = new Pool({
    name: POOL,
    settings: { warmInstances: 0, maxInstances: vms + 1, maxIdleAgeMs: 0, heartbeatTimeoutMs: 0 },
    source: instantSource,
    journal,
    limits: { creates: createLimiter(4), deletes: createLimiter(4) },
    logger: silentLogger,
  });
  await pool.start(records);
  return pool;
}

function readyRecord(): InstanceRecord {
  const now = Date.now();
  return { ...newRecord(POOL, OTHERS, now), state: "ready", readyAt: now, connectInfo };
}

const connectInfo: ConnectInfo = {
  os: "linux",
  arch: "amd64",
  protocol: "ssh",
  username: "ubuntu",
  privateKey: "a key",
  address: "192.0.2.1",
  port: 22,
};

/** Machines that are there as soon as they are wanted. */
const instantSource: Source = {
  name: "instant",
  async create({ save }) {
    await save({ machine: "there" });
    return { connectInfo };
  },
  delete: async () => undefined,
  resume: async () => true,
  onLost: () => undefined,
};

/** Until the answer is another one; asking costs the same however many instances there are. */
async function untilNot(code: ErrorCode, ask: () => unknown): Promise<void> {
  const probe = async (): Promise<true | undefined> => {
    try {
      ask();
    } catch (error) {
      if (error instanceof FleetingdError && error.code === code) return undefined;
    }
    return true;
  };
  await waitFor(probe, { timeoutMs: TIMEOUT_MS, intervalMs: 0, what: "the pool" });
}

export const cycles: readonly Measurement[] = [cycle(10), cycle(200), cycle(2_000)];
