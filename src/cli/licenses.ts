/** `fleetingd licenses`: what the build gathered from the packages that are in the bundles. */
import { FleetingdError } from "../errors.ts";
import { readTextIfExists } from "../host/files.ts";
import { packageFile } from "../host/package-root.ts";
import { type CliCommand, EXIT, type ReadOptions } from "./context.ts";

export const licenses: CliCommand<ReadOptions> = async ({ json }, context) => {
  const path = await packageFile("dist", json === true ? "licenses.json" : "licenses.txt");
  const text = await readTextIfExists(path);
  if (text === undefined) {
    throw new FleetingdError("NOT_FOUND", `there is no ${path}`, {
      hint: "The build makes it: run `npm run build`.",
    });
  }
  context.out(text.trimEnd());
  return EXIT.ok;
};
