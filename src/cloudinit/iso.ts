/** Writes a seed disk: a small ISO9660 image labelled `cidata`, as NoCloud wants it. */
import { chmod, mkdtemp, rename, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { FleetingdError } from "../errors.ts";
import { findProgram, removeTree } from "../host/files.ts";
import { run } from "../host/run.ts";
import type { SeedFiles } from "./seed.ts";

const LABEL = "cidata";

/** Programs that make the image, all with the options of mkisofs. */
const PROGRAMS: ReadonlyArray<[program: string, leading: readonly string[]]> = [
  ["genisoimage", []],
  ["xorriso", ["-as", "mkisofs"]],
  ["mkisofs", []],
];

/**
 * Writes the seed disk `path`, readable by its owner only, for it holds private keys. An older one is replaced.
 * @throws FleetingdError MISSING_PROGRAM if this host has nothing to make one with.
 */
export async function writeSeed(path: string, files: SeedFiles, signal?: AbortSignal): Promise<void> {
  const [program, leading] = await findIsoProgram();
  // Beside the disk, for it holds private keys: whoever is killed here leaves it where it is removed with its VM.
  const scratch = await mkdtemp(`${path}.`);
  const temporary = `${path}.tmp`;
  try {
    for (const [name, content] of Object.entries(files)) {
      if (basename(name) !== name)
        throw new FleetingdError("INTERNAL", `${name} is no name for a seed's file`);
      await writeFile(join(scratch, name), content, { mode: 0o600 });
    }
    // Made empty first, because the program would make it readable for all.
    await writeFile(temporary, "", { mode: 0o600 });
    const options = ["-quiet", "-V", LABEL, "-J", "-r", "-o", temporary, scratch];
    await run(program, [...leading, ...options], { signal });
    await chmod(temporary, 0o600);
    await rename(temporary, path);
  } finally {
    await Promise.all([removeTree(scratch), removeTree(temporary)]);
  }
}

async function findIsoProgram(): Promise<[path: string, leading: readonly string[]]> {
  for (const [name, leading] of PROGRAMS) {
    const path = await findProgram(name);
    if (path !== undefined) return [path, leading];
  }
  throw new FleetingdError(
    "MISSING_PROGRAM",
    "cannot make a seed disk: found neither genisoimage nor xorriso nor mkisofs on PATH",
    { hint: "Install the package genisoimage or xorriso." },
  );
}
