/** `fleetingd metrics`: as Prometheus would read them, also where the daemon serves them nowhere. */
import { callUnary } from "../host/grpc.ts";
import type { CliCommand } from "./context.ts";
import { EXIT } from "./context.ts";
import { callError, withDaemon } from "./daemon-client.ts";

const TIMEOUT_MS = 10_000;

export const metrics: CliCommand = async (options, context) => {
  const { text } = await withDaemon(options, async (client) => {
    try {
      return await callUnary(client.metrics.bind(client), {}, TIMEOUT_MS);
    } catch (error) {
      throw callError(error, TIMEOUT_MS);
    }
  });
  context.out(text.trimEnd());
  return EXIT.ok;
};
