/** The records of this host's VMs: those that can be used, and those that must be left alone. */
import { describeError } from "../errors.ts";
import type { InstanceRecord } from "../pool/instance.ts";
import type { Journal, LoadedRecords } from "../pool/journal.ts";
import { parseLocalData } from "../sources/local/vm.ts";

/** Whether VMs of this host may be left. */
export function hasLocalVms({ records, unreadable }: LoadedRecords): boolean {
  return unreadable.length > 0 || records.some(({ id, data }) => parseLocalData(id, data) !== undefined);
}

/** Counts a record that describes no local VM among those that can't be read. */
export async function loadLocalRecords(journal: Journal): Promise<LoadedRecords> {
  const loaded = await journal.load();
  const records: InstanceRecord[] = [];
  const unreadable = [...loaded.unreadable];
  for (const record of loaded.records) {
    try {
      parseLocalData(record.id, record.data);
      records.push(record);
    } catch (error) {
      unreadable.push({ path: journal.directoryOf(record.id), reason: describeError(error) });
    }
  }
  return { records, unreadable };
}
