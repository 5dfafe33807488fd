/**
 * Completions for bash, zsh and fish: commands, options, and the ids of instances where one is asked for. All three ask the same
 * table, a line for each command: its path, then the words that may follow.
 */
import type { CommandEntry } from "./commands.ts";

const INSTANCES = 'fleetingd ps --json 2>/dev/null | sed -n \'s/^      "id": "\\(.*\\)",*$/\\1/p\'';

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
const wordsOf = ({ subcommands, options }: CommandEntry): string[] => [
  ...subcommands,
  ...options.flatMap(({ names }) => names),
];
const wantsInstance = (command: CommandEntry): boolean => command.arguments[0]?.name === "instance";
const valueOptions = (commands: readonly CommandEntry[]): string[] => [
  ...new Set(
    commands.flatMap(({ options }) => options.filter((one) => one.takesValue).flatMap((one) => one.names)),
  ),
];

/** Sets `at` to the command that the words before the cursor name; the same text for bash and zsh, where `path` is PATH. */
function findCommand(commands: readonly CommandEntry[]): string {
  const paths = commands.filter(({ path }) => path.length > 0).map(({ path }) => quoted(path.join(" ")));
  return `  local at="" word skip=""
  for word in "\${before[@]}"; do
    if [[ -n $skip ]]; then skip=""; continue; fi
    case "$word" in
      ${valueOptions(commands).join("|")}) skip=yes ;;
      -*) ;;
      *)
        case "\${at:+$at }$word" in
          ${paths.join("|")}) at="\${at:+$at }$word" ;;
        esac
        ;;
    esac
  done`;
}

export function bashCompletion(commands: readonly CommandEntry[]): string {
  const cases = commands.map((command) => {
    const words = [...wordsOf(command), "--help"].join(" ");
    const ids = wantsInstance(command) ? ` $(${INSTANCES})` : "";
    return `    ${quoted(command.path.join(" "))}) words="${words}${ids}" ;;`;
  });
  return `# bash completion for fleetingd
_fleetingd() {
  local words="" before=("\${COMP_WORDS[@]:1:COMP_CWORD-1}")
${findCommand(commands)}
  # The value of an option is a file, if anything.
  if [[ -n $skip ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")
    return
  fi
  case "$at" in
${cases.join("\n")}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}")
}
complete -o default -F _fleetingd fleetingd
`;
}

export function zshCompletion(commands: readonly CommandEntry[]): string {
  const colonless = (text: string): string => text.replaceAll(":", "\\:");
  const cases = commands.map((command) => {
    const below = commands.filter(({ path }) => path.length === command.path.length + 1);
    const described = [
      ...command.subcommands.map((name) => {
        const found = below.find(({ path }) => path.join(" ") === [...command.path, name].join(" "));
        return quoted(`${name}:${colonless(found?.description ?? "")}`);
      }),
      ...command.options.flatMap(({ names, description }) =>
        names.map((name) => quoted(`${name}:${colonless(description)}`)),
      ),
      quoted("--help:how it is used"),
      ...(wantsInstance(command) ? [`\${(f)"$(${INSTANCES})"}`] : []),
    ];
    return `    ${quoted(command.path.join(" "))}) choices=(${described.join(" ")}) ;;`;
  });
  return `#compdef fleetingd
_fleetingd() {
  local -a choices before=("\${(@)words[2,CURRENT-1]}")
${findCommand(commands)}
  if [[ -n $skip ]]; then _files; return; fi
  case "$at" in
${cases.join("\n")}
  esac
  _describe 'fleetingd' choices || _files
}
_fleetingd "$@"
`
    .replaceAll("path=", "at=")
    .replaceAll("$path", "$at")
    .replaceAll("${path", "${at");
}

export function fishCompletion(commands: readonly CommandEntry[]): string {
  const lines = ["# fish completion for fleetingd", "complete -c fleetingd -f"];
  for (const command of commands) {
    const { path, subcommands } = command;
    const seen = path.map((word) => `__fish_seen_subcommand_from ${word}`);
    const unseen = subcommands.length > 0 ? [`not __fish_seen_subcommand_from ${subcommands.join(" ")}`] : [];
    const when = [...seen, ...unseen].join("; and ");
    const condition = when === "" ? "" : ` -n ${quoted(when)}`;
    for (const name of subcommands) {
      const below = commands.find((one) => one.path.join(" ") === [...path, name].join(" "));
      lines.push(`complete -c fleetingd${condition} -a ${name} -d ${quoted(below?.description ?? "")}`);
    }
    // Those of the program itself may stand anywhere.
    const where = path.length === 0 ? "" : condition;
    for (const { names, description, takesValue } of command.options) {
      const flags = names.map((name) =>
        name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`,
      );
      const value = takesValue ? " -r -F" : "";
      lines.push(`complete -c fleetingd${where} ${flags.join(" ")}${value} -d ${quoted(description)}`);
    }
    if (wantsInstance(command))
      lines.push(`complete -c fleetingd${condition} -a ${quoted(`(${INSTANCES})`)}`);
  }
  return `${lines.join("\n")}\n`;
}
