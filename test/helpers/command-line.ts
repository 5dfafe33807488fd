/** The command line of a daemon under test, as its operator has it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { execa } from "execa";
import type { z } from "zod";
import { FLEETINGD, type TestDaemon } from "./daemon.ts";

export interface CommandLine {
  /** A command's words, the program first. */
  words(...command: string[]): string[];
  /** What it prints; rejects if it fails. */
  output(...command: string[]): Promise<string>;
}

export function commandLineOf(daemon: Pick<TestDaemon, "directory">): CommandLine {
  const globals = ["--config", join(daemon.directory, "config.toml")];
  return {
    words: (...command) => [FLEETINGD, ...globals, ...command],
    output: async (...command) => (await execa(FLEETINGD, [...globals, ...command])).stdout,
  };
}

/** What `--json` has printed: fields that its schema does not know would be as wrong as missing ones. */
export function parseExactly<T extends z.ZodType>(schema: T, json: string): z.output<T> {
  const value: unknown = JSON.parse(json);
  const parsed = schema.parse(value);
  assert.deepEqual(parsed, value);
  return parsed;
}
