/**
 * An instance's record as it is on disk. Whoever may read it may log in to the instance, since its key is in it: root alone.
 * So nothing of this goes through the daemon's socket, which the runner's user may use, and it works while no daemon runs.
 */
import { FleetingdError, systemErrorCode } from "../errors.ts";
import type { InstanceRecord } from "../pool/instance.ts";
import { createJournal } from "../pool/journal.ts";
import type { GlobalOptions } from "./context.ts";

/** @throws FleetingdError NOT_FOUND, PERMISSION */
export async function readInstance(
  options: GlobalOptions,
  id: string,
): Promise<{ record: InstanceRecord; directory: string }> {
  const { loadConfig } = await import("../config/load.ts");
  const { stateDirectory } = (await loadConfig(options.config)).config.daemon;
  const journal = createJournal(stateDirectory);
  const { records } = await journal.load().catch((error: unknown) => {
    if (systemErrorCode(error) !== "EACCES") throw error;
    throw new FleetingdError("PERMISSION", `the records in ${stateDirectory} are for root only.`, {
      hint: "Use sudo: keys and consoles of VMs are nobody else's business.",
      cause: error,
    });
  });
  const record = records.find((one) => one.id === id);
  if (record !== undefined) return { record, directory: journal.directoryOf(id) };
  throw new FleetingdError("NOT_FOUND", `there is no instance ${id} in ${stateDirectory}.`, {
    hint: "`fleetingd ps` lists the instances; `fleetingd explain` tells of one that is gone.",
  });
}
