/** The records of this host's VMs: those that can be used, and those that must be left alone. */
import { describeError } from "../errors.ts";
import type { InstanceRecord } from "../pool/instance.ts";
import type { Journal, LoadedRecords } from "../pool/journal.ts";
import { parseLocalData } from "../sources/local/vm.ts";

/** Whether VMs of this host may be left. */
export function hasLocalVms({ records, unreadable }: LoadedRecords): boolean {
  return unreadable.length > 0 || records.some(({ id, data }) => parseLocalData(id, data) !== undefined);
}

/** Counts a record that describes no local VM, or one that another one describes, among those that can't be read. */
export async function loadLocalRecords(journal: Journal): Promise<LoadedRecords> {
  const loaded = await journal.load();
  const unreadable = [...loaded.unreadable];
  const records: InstanceRecord[] = [];
  const bySlot = new Map<string, InstanceRecord[]>();
  for (const record of loaded.records) {
    try {
      const data = parseLocalData(record.id, record.data);
      if (data === undefined) {
        records.push(record);
        continue;
      }
      const slot = `${data.subnet} ${data.slot}`;
      bySlot.set(slot, [...(bySlot.get(slot) ?? []), record]);
    } catch (error) {
      unreadable.push({ path: journal.directoryOf(record.id), reason: describeError(error) });
    }
  }
  for (const sharing of bySlot.values()) {
    const ready = sharing.filter(({ state }) => state === "ready");
    if (ready.length <= 1) {
      records.push(...sharing.map((record) => withoutLostSlot(record, ready[0])));
      continue;
    }
    for (const { id } of sharing) {
      const others = sharing.flatMap((other) => (other.id === id ? [] : other.id)).join(", ");
      unreadable.push({
        path: journal.directoryOf(id),
        reason: `it names the same slot as the record of ${others}`,
      });
    }
  }
  return { records, unreadable };
}

/** A slot passes to another instance only when nothing is left of the one before: its record alone has outlived it. */
function withoutLostSlot(record: InstanceRecord, holder: InstanceRecord | undefined): InstanceRecord {
  return holder === undefined || record === holder ? record : { ...record, data: {} };
}
