/** `fleetingd remove`: ends one VM, whoever has it. */
import { callUnary } from "../host/grpc.ts";
import { type CliCommand, EXIT, type GlobalOptions } from "./context.ts";
import { callError, withDaemon } from "./daemon-client.ts";

export interface RemoveOptions extends GlobalOptions {
  instance: string;
}

/** The daemon only writes down that it is to go. */
const TIMEOUT_MS = 30_000;

export const remove: CliCommand<RemoveOptions> = async (options, context) => {
  await withDaemon(options, async (client) => {
    try {
      await callUnary(client.remove.bind(client), { id: options.instance }, TIMEOUT_MS);
    } catch (error) {
      throw callError(error, TIMEOUT_MS);
    }
  });
  context.out(`${options.instance} is being removed.`);
  return EXIT.ok;
};
