/** The prebuild's report: a tar that the guest wrote to a raw disk of its own. */
import { createReadStream } from "node:fs";
import { mkdir, truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Parser, type ReadEntry } from "tar";
import * as z from "zod";
import { FleetingdError } from "../errors.ts";
import { writeFileAtomic } from "../host/files.ts";
import { type KernelModule, moduleOf } from "./kernel-modules.ts";

export interface CommandReport {
  /** From 1, in the order of the operator's list. */
  number: number;
  exitCode: number;
  /** Standard output and error, the last megabyte of it. */
  output: string;
}

export interface PrebuildReport {
  cloudInit: {
    /** Failures that cloud-init itself reported. */
    errors: readonly string[];
    /** Whether it came to its end. */
    finished: boolean;
  };
  commands: readonly CommandReport[];
  /** Whether the disk was made ready for cloning, and what that said. */
  finish: { exitCode: number | undefined; output: string };
  kernel: {
    /** `uname -r` */
    release: string;
    /** What is mounted as the root: `/dev/vda1`. */
    rootDevice: string;
    /** `ext4` */
    rootType: string;
    /** What an initrd for this kernel must load, in order; empty if all is built in. */
    modules: readonly KernelModule[];
    /** Wanted modules that this kernel has in no form. */
    missing: readonly string[];
  };
  /** All files of the report by name, for keeping. */
  files: ReadonlyMap<string, Buffer>;
}

const MAX_FILE_BYTES = 32 * 1024 * 1024;
const SHOWN_LINES = 20;
const CloudInitResult = z.object({ v1: z.object({ errors: z.array(z.string()) }) });

/** Makes the raw, sparse file behind the report disk. */
export async function createReportDisk(path: string, sizeMiB: number): Promise<void> {
  await writeFile(path, "", { mode: 0o600 });
  await truncate(path, sizeMiB * 1024 * 1024);
}

/**
 * Reads the report from the disk's file, whatever the prebuild's outcome.
 * @throws FleetingdError PREBUILD_FAILED if the guest wrote none.
 */
export async function readPrebuildReport(path: string): Promise<PrebuildReport> {
  const files = await readTar(path);
  if (files.get("version")?.toString().trim() !== "1") {
    throw new FleetingdError("PREBUILD_FAILED", "the prebuild VM ended without writing its report", {
      hint: "Its console log says how far it came.",
    });
  }
  const text = (name: string): string => files.get(name)?.toString().trim() ?? "";
  const finishCode = text("finish.code");
  return {
    cloudInit: cloudInitOutcome(files.get("cloud-init/result.json")),
    commands: commandReports(files),
    finish: {
      exitCode: finishCode === "" ? undefined : Number(finishCode),
      output: text("finish.out"),
    },
    kernel: {
      release: text("kernel/release"),
      rootDevice: text("kernel/root-device"),
      rootType: text("kernel/root-type"),
      modules: await kernelModules(files),
      missing: text("kernel/missing")
        .split("\n")
        .filter((name) => name !== ""),
    },
    files,
  };
}

/**
 * Throws what went wrong in the prebuild, if anything did.
 * @param commands the commands as the guest ran them, for the message
 * @throws FleetingdError PREBUILD_FAILED with the command and its output
 */
export function requireSuccess(report: PrebuildReport, commands: readonly string[]): void {
  const failed = report.commands.find(({ exitCode }) => exitCode !== 0);
  if (failed !== undefined) {
    const command = commands[failed.number - 1] ?? "?";
    const place = `extra command ${failed.number} of ${commands.length}`;
    throw new FleetingdError(
      "PREBUILD_FAILED",
      `the prebuild's ${place} failed with exit code ${failed.exitCode}: ${command}\n${lastLines(failed.output)}`,
      { hint: "Correct vm_prebuild_cloudinit_extra_cmds; the next prebuild runs all commands again." },
    );
  }
  if (!report.cloudInit.finished || report.cloudInit.errors.length > 0) {
    const reason = report.cloudInit.finished
      ? report.cloudInit.errors.join("\n")
      : "it did not come to its end";
    throw new FleetingdError("PREBUILD_FAILED", `cloud-init failed in the prebuild VM: ${reason}`, {
      hint: "Packages need a network in the prebuild VM: check the egress interface and its mirrors.",
    });
  }
  if (report.commands.length < commands.length) {
    const count = `${report.commands.length} of ${commands.length}`;
    throw new FleetingdError("PREBUILD_FAILED", `the prebuild VM ran only ${count} extra commands`);
  }
  if (report.finish.exitCode !== 0) {
    throw new FleetingdError(
      "PREBUILD_FAILED",
      `the prebuild VM could not make its disk ready for cloning:\n${lastLines(report.finish.output)}`,
    );
  }
}

/** Writes the report's files, but for the kernel modules, into `directory`. */
export async function saveReport(report: PrebuildReport, directory: string): Promise<void> {
  for (const [name, content] of report.files) {
    if (name.startsWith("kernel/modules/")) continue;
    const path = join(directory, name);
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFileAtomic(path, content);
  }
}

function lastLines(output: string): string {
  return output.trimEnd().split("\n").slice(-SHOWN_LINES).join("\n");
}

function cloudInitOutcome(result: Buffer | undefined): PrebuildReport["cloudInit"] {
  if (result === undefined) return { finished: false, errors: [] };
  try {
    return { finished: true, errors: CloudInitResult.parse(JSON.parse(result.toString())).v1.errors };
  } catch (error) {
    throw new FleetingdError(
      "PREBUILD_FAILED",
      "the prebuild VM's cloud-init left a result that cannot be read",
      {
        cause: error,
      },
    );
  }
}

function commandReports(files: ReadonlyMap<string, Buffer>): CommandReport[] {
  const reports: CommandReport[] = [];
  for (const [name, content] of files) {
    const number = /^commands\/(\d+)\.code$/.exec(name)?.[1];
    if (number === undefined) continue;
    reports.push({
      number: Number(number),
      exitCode: Number(content.toString().trim()),
      output: files.get(`commands/${number}.out`)?.toString() ?? "",
    });
  }
  return reports.sort((a, b) => a.number - b.number);
}

async function kernelModules(files: ReadonlyMap<string, Buffer>): Promise<KernelModule[]> {
  const found = [...files]
    .map(([name, content]) => ({ match: /^kernel\/modules\/(\d+)-([\w.-]+)$/.exec(name), content }))
    .sort((a, b) => Number(a.match?.[1]) - Number(b.match?.[1]));
  const modules: KernelModule[] = [];
  for (const { match, content } of found) {
    if (match?.[2] !== undefined) modules.push(await moduleOf(match[2], content));
  }
  return modules;
}

/** Regular files with plain relative names only: the guest's word decides no path on this host. */
async function readTar(path: string): Promise<ReadonlyMap<string, Buffer>> {
  const files = new Map<string, Buffer>();
  const onReadEntry = (entry: ReadEntry): void => {
    const name = entry.path.replace(/^\.\//, "");
    const wanted =
      entry.type === "File" && /^[\w-][\w.-]*(\/[\w-][\w.-]*)*$/.test(name) && entry.size <= MAX_FILE_BYTES;
    if (!wanted) return void entry.resume();
    const chunks: Buffer[] = [];
    entry.on("data", (chunk) => chunks.push(chunk));
    entry.on("end", () => files.set(name, Buffer.concat(chunks)));
  };
  const parser = new Parser({ onReadEntry, strict: false });
  let atEnd = false;
  parser.on("eof", () => {
    atEnd = true;
  });
  for await (const chunk of createReadStream(path)) {
    parser.write(chunk as Buffer);
    // The parser would collect the rest of the disk, and copy all that it has with every chunk.
    if (atEnd) break;
  }
  await new Promise<void>((resolve) => {
    parser.on("end", resolve);
    parser.end();
  });
  return files;
}
