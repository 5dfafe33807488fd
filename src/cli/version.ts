/** `fleetingd version` */
import type { Versions } from "./answers.ts";
import { type CliCommand, EXIT, type ReadOptions } from "./context.ts";

export const version: CliCommand<ReadOptions> = async ({ json }, context) => {
  const versions: Versions = { version: context.version, node: process.version };
  context.out(
    json === true ? JSON.stringify(versions) : `fleetingd ${versions.version} (Node.js ${versions.node})`,
  );
  return EXIT.ok;
};
