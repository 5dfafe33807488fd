/** `fleetingd drain`: the daemon makes no more VMs; ends when the last job has. */
import type { DaemonClient } from "../gen/fleetingd.ts";
import { type CliCommand, EXIT, type GlobalOptions } from "./context.ts";
import { callError, withDaemon } from "./daemon-client.ts";
import { createProgress } from "./progress.ts";

export interface DrainOptions extends GlobalOptions {
  /** Makes VMs again. */
  undo: boolean;
}

const TIMEOUT_MS = 7 * 24 * 3_600_000;

export const drain: CliCommand<DrainOptions> = async (options, context) => {
  const progress = createProgress(context);
  try {
    await withDaemon(options, (client) =>
      follow(client, options, (left) => progress.update(`${left} VMs are left`)),
    );
  } finally {
    progress.end();
  }
  context.out(
    options.undo ? "VMs are made again." : "No VM is left, and none is made until `fleetingd drain --undo`.",
  );
  return EXIT.ok;
};

function follow(
  client: DaemonClient,
  { undo }: DrainOptions,
  onProgress: (left: number) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const call = client.drain({ undo }, { deadline: Date.now() + TIMEOUT_MS });
    call.on("data", ({ left }: { left: number }) => onProgress(left));
    call.once("error", (error) => reject(callError(error, TIMEOUT_MS)));
    call.once("end", resolve);
  });
}
