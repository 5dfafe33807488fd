/** `fleetingd prebuild`: asks the daemon for a new golden image and shows how far it is. */
import { FleetingdError } from "../errors.ts";
import type { DaemonClient, PrebuildProgress } from "../gen/fleetingd.ts";
import { type CliCommand, EXIT, type GlobalOptions } from "./context.ts";
import { callError, withDaemon } from "./daemon-client.ts";
import { createProgress } from "./progress.ts";

export interface PrebuildOptions extends GlobalOptions {
  /** Undefined: every pool. */
  pool?: string | undefined;
  force?: boolean;
}

/** Longer than any `prebuild_timeout`: the daemon gives up first, and says why. */
const TIMEOUT_MS = 25 * 3_600_000;

export const prebuild: CliCommand<PrebuildOptions> = async (options, context) => {
  const progress = createProgress(context);
  const made: string[] = [];
  try {
    await withDaemon(options, (client) =>
      follow(client, options, ({ pool, message, goldenImage }) => {
        if (goldenImage === "") return progress.update(pool === "" ? message : `${pool}: ${message}`);
        progress.note(`${pool}: the golden image is ${goldenImage}`);
        made.push(goldenImage);
      }),
    );
  } finally {
    progress.end();
  }
  if (made.length === 0) {
    throw new FleetingdError("NOT_FOUND", "the daemon has no pool to make a golden image for.", {
      hint: "Add a [pools.<name>] to its configuration.",
    });
  }
  for (const name of made) context.out(name);
  return EXIT.ok;
};

function follow(
  client: DaemonClient,
  { pool = "", force = false }: PrebuildOptions,
  onProgress: (progress: PrebuildProgress) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const call = client.prebuild({ pool, force }, { deadline: Date.now() + TIMEOUT_MS });
    call.on("data", onProgress);
    call.once("error", (error) => reject(callError(error, TIMEOUT_MS)));
    call.once("end", resolve);
  });
}
