/** The program `fleetingd`: the composition root of everything but the plugin, which is a program of its own. */
import { runCli } from "./cli/program.ts";
import { addSystemDirectoriesToPath } from "./host/files.ts";
import { VERSION } from "./version.ts";

addSystemDirectoriesToPath();
void runCli(process.argv.slice(2), {
  version: VERSION,
  serve: async () => (await import("./cli/serve.ts")).serve,
  demo: async () => (await import("./cli/demo/demo.ts")).demo,
}).then((exitCode) => {
  process.exitCode = exitCode;
});
