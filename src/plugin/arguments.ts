/** The plugin's arguments: what GitLab Runner's commands and the fleeting library know. */

export type Command =
  | { name: "serve" | "version" | "licenses" | "help" }
  | { name: "bootstrap"; repository: string };

export const USAGE = `Usage: fleeting-plugin-fleetingd [command]

GitLab Runner starts this program by itself: name it as "plugin" in [runners.autoscaler].

Commands:
  serve             speak the fleeting protocol (the default; only GitLab Runner can use it)
  bootstrap <repo>  copy this plugin to $FLEETING_PLUGIN_PATH, as "gitlab-runner fleeting install" expects
  licenses          print the licences of this program and of what it contains
  version           print the version
`;

/** @returns undefined for arguments that mean nothing. */
export function parseArguments(args: readonly string[]): Command | undefined {
  const [first = "serve", second, ...rest] = args;
  if (rest.length > 0) return undefined;
  if (first === "bootstrap") return second ? { name: first, repository: second } : undefined;
  if (second !== undefined) return undefined;
  switch (first) {
    case "serve":
    case "licenses":
      return { name: first };
    case "version":
    case "--version":
    case "-version": // as Go programs write it
      return { name: "version" };
    case "help":
    case "--help":
    case "-h":
      return { name: "help" };
    default:
      return undefined;
  }
}
