/**
 * Prometheus' own checker: the host's, or the one of Debian's package, unpacked. Installing the package would start a
 * server on this machine.
 */
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { exists, findProgram } from "../../src/host/files.ts";
import { ROOT } from "./daemon.ts";

const UNPACKED = join(ROOT, ".cache", "prometheus");
const PROGRAM = join(UNPACKED, "usr/bin/promtool");

/** Its path; needs the network once. */
export async function preparePromtool(): Promise<string> {
  const installed = await findProgram("promtool");
  if (installed !== undefined) return installed;
  if (await exists(PROGRAM)) return PROGRAM;
  const work = await mkdtemp(join(tmpdir(), "promtool-"));
  try {
    await execa("apt-get", ["download", "prometheus", "-o", "APT::Sandbox::User=root"], { cwd: work });
    const [archive = ""] = await readdir(work);
    await mkdir(UNPACKED, { recursive: true });
    await execa("dpkg-deb", ["--extract", join(work, archive), UNPACKED]);
  } finally {
    await rm(work, { recursive: true });
  }
  return PROGRAM;
}
