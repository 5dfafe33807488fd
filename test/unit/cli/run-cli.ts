/** The command line as a program, with nothing behind `serve` and `demo`. Started by the tests. */
import { runCli } from "../../../src/cli/program.ts";

const running = runCli(process.argv.slice(2), {
  version: "1.2.3",
  serve: async () => async (options, context) => {
    context.out(JSON.stringify(options));
    return 7;
  },
});
void running.then((exitCode) => {
  process.exitCode = exitCode;
});
