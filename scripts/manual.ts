/**
 * Makes manual pages and the completions of shells from the command line's own definitions: dist/man, dist/completions.
 *
 *     tsx scripts/manual.ts
 */
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { buildProgram } from "../src/cli/program.ts";
import { ensureDirectory, removeTree, writeFileAtomic } from "../src/host/files.ts";
import { USAGE } from "../src/plugin/arguments.ts";
import { listCommands } from "./manual/commands.ts";
import { bashCompletion, fishCompletion, zshCompletion } from "./manual/completions.ts";
import { commandParts, item, optionItems, paragraph, renderPage } from "./manual/man.ts";

const ROOT = join(import.meta.dirname, "..");
const NOT_RUN = () => Promise.reject(new Error("it is only described"));

/** Every file, by its path below dist. */
export function manualFiles(version: string): Readonly<Record<string, string>> {
  const program = buildProgram({ version, serve: NOT_RUN, demo: NOT_RUN }, NOT_RUN);
  const commands = listCommands(program);
  const [whole] = commands;
  const daemonPage = renderPage({
    ...{ name: "fleetingd", section: 8, version, summary: "disposable CI machines for GitLab Runner" },
    sections: [
      ["SYNOPSIS", [".B fleetingd", ".RI [ options ]", ".I command", ".RI [ arguments ]"]],
      ["DESCRIPTION", paragraph(whole?.description ?? "")],
      ["OPTIONS", optionItems(whole?.options ?? [])],
      ["COMMANDS", commandParts("fleetingd", commands)],
      [
        "EXIT STATUS",
        [
          ...item("0", "Done."),
          ...item("1", "Failed; the reason is on standard error."),
          ...item("2", "Wrong usage, or a configuration that is not valid."),
          ...item("3", "No daemon answers."),
        ],
      ],
      [
        "FILES",
        [
          ...item(
            "/etc/fleetingd/config.toml",
            "The configuration; `fleetingd config check` reports every error in it.",
          ),
          ...item(
            "/var/lib/fleetingd",
            "Records of VMs, and their images unless `vm_disk_directory` says otherwise.",
          ),
          ...item("/run/fleetingd/fleetingd.sock", "The daemon's socket, for the group `fleetingd`."),
        ],
      ],
      ["ENVIRONMENT", item("FLEETINGD_NODE", "The Node.js that runs the program.")],
      ["SEE ALSO", [".BR fleeting\\-plugin\\-fleetingd (8)"]],
    ],
  });
  const pluginPage = renderPage({
    ...{ name: "fleeting-plugin-fleetingd", section: 8, version },
    summary: "lets GitLab Runner use the machines of fleetingd",
    sections: [
      ["SYNOPSIS", [".B fleeting\\-plugin\\-fleetingd", ".RI [ command ]"]],
      [
        "DESCRIPTION",
        [
          ".nf",
          ...USAGE.trimEnd()
            .split("\n")
            .map((line) => line.replaceAll("-", "\\-")),
          ".fi",
        ],
      ],
      [
        "ENVIRONMENT",
        [
          ...item("FLEETINGD_SOCKET", "The daemon's socket, if `plugin_config` has no `socket`."),
          ...item("FLEETINGD_NODE", "The Node.js that runs the program."),
        ],
      ],
      ["SEE ALSO", [".BR fleetingd (8)"]],
    ],
  });
  return {
    "man/fleetingd.8": daemonPage,
    "man/fleeting-plugin-fleetingd.8": pluginPage,
    "completions/fleetingd.bash": bashCompletion(commands),
    "completions/fleetingd.zsh": zshCompletion(commands),
    "completions/fleetingd.fish": fishCompletion(commands),
  };
}

async function main(): Promise<void> {
  const { version } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as { version: string };
  const dist = join(ROOT, "dist");
  for (const folder of ["man", "completions"]) await removeTree(join(dist, folder));
  for (const [path, text] of Object.entries(manualFiles(version))) {
    await ensureDirectory(dirname(join(dist, path)), 0o755);
    await writeFileAtomic(join(dist, path), text, 0o644);
  }
}

if (process.argv[1] === import.meta.filename) await main();
