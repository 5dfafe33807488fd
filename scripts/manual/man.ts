/** Manual pages, in the macros of man(7). */
import type { CommandEntry, OptionEntry } from "./commands.ts";

export interface Page {
  name: string;
  section: number;
  version: string;
  /** After the name, in a line. */
  summary: string;
  /** Headed paragraphs, each already in macros. */
  sections: readonly (readonly [heading: string, lines: readonly string[]])[];
}

export function renderPage({ name, section, version, summary, sections }: Page): string {
  const title = `.TH ${name.toUpperCase()} ${section} "" "fleetingd ${version}" "System Administration"`;
  const lines = [title, ".SH NAME", `${escapeText(name)} \\- ${escapeText(summary)}`];
  for (const [heading, body] of sections) lines.push(`.SH ${heading}`, ...body);
  return `${lines.join("\n")}\n`;
}

/** A paragraph: backquotes become bold. */
export function paragraph(text: string): string[] {
  return [".PP", ...formatted(text)];
}

/** A term and what it means. */
export function item(term: string, meaning: string): string[] {
  return [".TP", `.B ${escapeText(term)}`, ...formatted(meaning)];
}

/** A part for each command that does something. */
export function commandParts(program: string, commands: readonly CommandEntry[]): string[] {
  return commands
    .filter(({ path, subcommands }) => path.length > 0 && subcommands.length === 0)
    .flatMap((command) => [
      `.SS ${escapeText([program, ...command.path, command.usage].join(" "))}`,
      ...formatted(sentence(command.description)),
      ...command.arguments.flatMap(({ name, description }) => item(name, sentence(description))),
      ...optionItems(command.options),
    ]);
}

export function optionItems(options: readonly OptionEntry[]): string[] {
  return options.flatMap(({ flags, description }) => item(flags, sentence(description)));
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

function formatted(text: string): string[] {
  // Splitting at backquotes leaves what was between two of them at the odd places.
  const parts = text
    .split("`")
    .map((part, n) => (n % 2 === 1 ? `\\fB${escapeText(part)}\\fR` : escapeText(part)));
  return parts.join("").split("\n").map(asTextLine);
}

/** A dot or an apostrophe at the beginning of a line would be a request. */
function asTextLine(line: string): string {
  return /^[.']/.test(line) ? `\\&${line}` : line;
}

function escapeText(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll("≥", ">=").replaceAll("…", "...");
}
