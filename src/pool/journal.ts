/**
 * The records on disk: `vms/<id>/record.json`. The directories are the database; there is no other.
 *
 * A record is durable before `write` returns, so a caller writes first and acts afterwards. Writes of one
 * record happen in the order in which they were asked for.
 */
import { unlink } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { FleetingdError, messageOf } from "../errors.ts";
import { explainDiskFull } from "../host/disk-full.ts";
import {
  ensureDurableDirectory,
  exists,
  ifExists,
  listDirectory,
  listFolders,
  readTextIfExists,
  removeTree,
  syncDirectory,
  writeFileAtomic,
} from "../host/files.ts";
import { type InstanceRecord, RECORD_VERSION, recordSchema } from "./instance.ts";

export interface UnreadableRecord {
  path: string;
  reason: string;
}

export interface LoadedRecords {
  records: InstanceRecord[];
  unreadable: UnreadableRecord[];
}

export interface Journal {
  /** The folder of an instance. */
  directoryOf(id: string): string;
  write(record: InstanceRecord): Promise<void>;
  /** Removes the record and then whatever is left in its folder. */
  remove(id: string): Promise<void>;
  /** Those of `ids` whose folder somebody has removed. */
  missing(ids: readonly string[]): Promise<string[]>;
  load(): Promise<LoadedRecords>;
}

const RECORD_FILE = "record.json";
/** Each takes a descriptor. */
const READS_AT_A_TIME = 64;

export function createJournal(stateDirectory: string): Journal {
  const root = join(stateDirectory, "vms");
  const directoryOf = (id: string): string => join(root, id);
  const lastWrites = new Map<string, Promise<void>>();

  const inOrder = (id: string, work: () => Promise<void>): Promise<void> => {
    const previous = lastWrites.get(id) ?? Promise.resolve();
    // A failed write was reported to the one who asked for it; the next one starts afresh.
    const next = previous.then(work, work);
    const settled = next.finally(() => {
      if (lastWrites.get(id) === settled) lastWrites.delete(id);
    });
    lastWrites.set(id, settled);
    return settled;
  };

  const load = async (id: string, { records, unreadable }: LoadedRecords): Promise<void> => {
    const path = join(directoryOf(id), RECORD_FILE);
    const parsed = await readRecord(path, id);
    if (typeof parsed === "string") unreadable.push({ path, reason: parsed });
    else if (parsed !== undefined) records.push(parsed);
  };

  return {
    directoryOf,
    write(record) {
      const text = `${JSON.stringify(record, undefined, 1)}\n`;
      const directory = directoryOf(record.id);
      return inOrder(record.id, async () => {
        try {
          await ensureDurableDirectory(directory);
          await writeFileAtomic(join(directory, RECORD_FILE), text);
        } catch (error) {
          throw explainDiskFull(error, `the record of ${record.id}`, root);
        }
      });
    },
    remove(id) {
      return inOrder(id, async () => {
        await ifExists(unlink(join(directoryOf(id), RECORD_FILE)));
        await removeTree(directoryOf(id));
        // Somebody may have removed the whole state directory.
        if (await exists(root)) await syncDirectory(root);
      });
    },
    async missing(ids) {
      const present = new Set(await listDirectory(root));
      return ids.filter((id) => !present.has(id));
    },
    async load() {
      const loaded: LoadedRecords = { records: [], unreadable: [] };
      const ids = await listFolders(root).catch((error: unknown) => {
        throw new FleetingdError("CORRUPT", `the records in ${root} can't be read: ${messageOf(error)}`, {
          hint: "It must be a folder that the daemon can read; nothing that is there was changed.",
          cause: error,
        });
      });
      while (ids.length > 0) {
        await Promise.all(ids.splice(0, READS_AT_A_TIME).map((id) => load(id, loaded)));
      }
      return loaded;
    },
  };
}

/** The record; or why it can't be read; or undefined if there is none. */
async function readRecord(path: string, id: string): Promise<InstanceRecord | string | undefined> {
  let text: string | undefined;
  try {
    text = await readTextIfExists(path);
  } catch (error) {
    return messageOf(error);
  }
  if (text === undefined) return undefined;
  const parsed = parseRecord(text);
  if (typeof parsed === "string" || parsed.id === id) return parsed;
  return `it is the record of ${parsed.id}, and not of ${id}`;
}

function parseRecord(text: string): InstanceRecord | string {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    return `it is not JSON (${messageOf(error)})`;
  }
  const { data: written } = z.object({ version: z.number() }).safeParse(json);
  if (written !== undefined && written.version > RECORD_VERSION) {
    return `a newer fleetingd wrote it (record version ${written.version}; this one knows versions up to ${RECORD_VERSION}): install that version again`;
  }
  const parsed = recordSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  return `${issue?.path.join(".") ?? ""}: ${issue?.message ?? "not a record"}`;
}
