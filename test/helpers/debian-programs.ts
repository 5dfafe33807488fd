/**
 * Programs of Debian packages that are not installed on this machine, where they would start services and change its rules: they
 * are in a folder, and run with the libraries that are there. `prepareDebianPrograms` needs a network; a second call finds
 * everything.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { removeTree } from "../../src/host/files.ts";
import { run } from "../../src/host/run.ts";
import { cacheFolder, makeOnce } from "./made-once.ts";

const SUITE = "trixie";
const PACKAGES = [
  "apt-cacher-ng",
  "dbus-daemon",
  "docker-registry",
  "docker-cli",
  "docker.io",
  "firewalld",
  "iptables",
  "ufw",
];
const ROOT = cacheFolder("debian-programs", [SUITE, PACKAGES, "configured"]);
const LOADER = join(ROOT, "usr/lib64/ld-linux-x86-64.so.2");
const LIBRARIES = join(ROOT, "usr/lib/x86_64-linux-gnu");

export async function prepareDebianPrograms(): Promise<void> {
  const options = [
    "--quiet",
    "--mode=root",
    "--variant=minbase",
    '--aptopt=Apt::Install-Recommends "false"',
    "--dpkgopt=force-unsafe-io",
    `--include=${PACKAGES.join(",")}`,
  ];
  await makeOnce(ROOT, (root) => run("mmdebstrap", [...options, SUITE, root], { timeoutMs: 600_000 }));
}

/** An installation of its own, with these programs, in the namespaces of the test. */
export interface DebianRoot {
  run(...command: readonly string[]): Promise<string>;
  /** Starts a program that stays; answers how to end it, which `close` does, too. */
  start(...command: readonly string[]): () => Promise<void>;
  close(): Promise<void>;
}

export async function openDebianRoot(): Promise<DebianRoot> {
  const scratch = await mkdtemp(join(tmpdir(), "debian-root-"));
  await run("mount", ["-t", "tmpfs", "debian-root", scratch]);
  const [upper, work, root] = ["upper", "work", "root"].map((name) => join(scratch, name)) as [
    string,
    string,
    string,
  ];
  for (const folder of [upper, work, root]) await mkdir(folder);
  const layers = `lowerdir=${ROOT},upperdir=${upper},workdir=${work}`;
  await run("mount", ["-t", "overlay", "debian-root", "-o", layers, root]);
  await run("mount", ["-t", "proc", "debian-root", join(root, "proc")]);
  await run("mount", ["-t", "sysfs", "debian-root", join(root, "sys")]);
  await run("mount", ["-t", "cgroup2", "debian-root", join(root, "sys/fs/cgroup")]);
  await run("mount", ["--bind", "/dev", join(root, "dev")]);
  for (const folder of ["run", "tmp"]) await run("mount", ["-t", "tmpfs", "debian-root", join(root, folder)]);
  const env = { PATH: "/usr/sbin:/usr/bin", LC_ALL: "C" };
  const ends: (() => Promise<void>)[] = [];
  return {
    async run(...command) {
      return (await run("chroot", [root, ...command], { env, timeoutMs: 120_000 })).stdout;
    },
    start(...command) {
      const child = spawn("chroot", [root, ...command], { env, stdio: "ignore" });
      const ended = once(child, "exit");
      const end = async (): Promise<void> => {
        child.kill("SIGTERM");
        await ended;
      };
      ends.push(end);
      return end;
    },
    async close() {
      await Promise.all(ends.map((end) => end()));
      await run("umount", ["--recursive", scratch]);
      await removeTree(scratch);
    },
  };
}

/** The command that runs one of these programs; `path` is absolute, as in an installed package. */
export function debianProgram(path: string, ...args: readonly string[]): string[] {
  return [LOADER, "--library-path", LIBRARIES, join(ROOT, path), ...args];
}

/** Runs `iptables` (or `iptables-save`, …) as Debian has it: its rules are nftables' own, beside ours. */
export async function iptables(program: string, args: readonly string[], input = ""): Promise<string> {
  const own = ["--library-path", LIBRARIES, "--argv0", program, join(ROOT, "usr/sbin/xtables-nft-multi")];
  const env = { XTABLES_LIBDIR: join(LIBRARIES, "xtables") };
  return (await run(LOADER, [...own, ...args], { input, env })).stdout;
}
