/** Streams of the daemon that are JSON, an object each: events and log lines. */
import type { ClientReadableStream } from "@grpc/grpc-js";
import type { DaemonClient } from "../gen/fleetingd.ts";
import type { GlobalOptions } from "./context.ts";
import { callError, withDaemon } from "./daemon-client.ts";

export interface FollowOptions extends GlobalOptions {
  /** Goes on with what happens from now on, until it is interrupted or the daemon ends. */
  follow?: boolean;
  json?: boolean;
}

const READ_TIMEOUT_MS = 10_000;
const FOLLOW_TIMEOUT_MS = 7 * 24 * 3_600_000;

export type Method = "events" | "logs";

/** Calls `onJson` for each object that the daemon sends. @throws FleetingdError */
export function readStream(
  options: FollowOptions,
  method: Method,
  instance: string | undefined,
  onJson: (json: string) => void,
): Promise<void> {
  const follow = options.follow === true;
  const timeoutMs = follow ? FOLLOW_TIMEOUT_MS : READ_TIMEOUT_MS;
  return withDaemon(
    options,
    (client) =>
      new Promise((resolve, reject) => {
        const call = open(client, method, { instance: instance ?? "", follow }, Date.now() + timeoutMs);
        call.on("data", ({ json }: { json: string }) => onJson(json));
        call.once("error", (error) => reject(callError(error, timeoutMs)));
        call.once("end", resolve);
      }),
  );
}

function open(
  client: DaemonClient,
  method: Method,
  request: { instance: string; follow: boolean },
  deadline: number,
): ClientReadableStream<{ json: string }> {
  return method === "events" ? client.events(request, { deadline }) : client.logs(request, { deadline });
}
