/**
 * `debian-packages`: a base image built on this host from a distribution's signed packages. No mount and no
 * loop device: mmdebstrap fills a folder, `mke2fs -d` turns it into a sparse whole-disk ext4.
 */
import { createHash } from "node:crypto";
import { copyFile, readFile, truncate } from "node:fs/promises";
import { join } from "node:path";
import { FleetingdError, messageOf } from "../errors.ts";
import { exists, findProgram, listDirectory, writeFileAtomic } from "../host/files.ts";
import { packageFile } from "../host/package-root.ts";
import { run } from "../host/run.ts";
import { hostEntriesForSuite } from "./apt-sources.ts";
import { readBaseImage, writeBaseImage } from "./base-store.ts";
import type { BaseImage, OnProgress } from "./image.ts";
import { buildInitrd, readInitScript } from "./initrd.ts";
import { BOOT_MODULES, CONSOLE_MODULE, readKernelModules } from "./kernel-modules.ts";
import { publishDirectory, removeBuildTree } from "./publish.ts";

export interface DebianPackagesOptions {
  /** Images go to `<diskDirectory>/base/<name>/`. */
  diskDirectory: string;
  /** A codename, `bookworm`. Default: the host's if it is Debian, else `bookworm`. */
  suite?: string | undefined;
  /** Mirror URIs or one-line apt entries. Default: the host's own sources for the suite, else mmdebstrap's. */
  mirrors?: readonly string[] | undefined;
  /** Installed besides what every image has. */
  packages?: readonly string[] | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: OnProgress | undefined;
}

const PACKAGES: readonly string[] = [
  "ca-certificates",
  "cloud-init",
  "curl",
  "dbus",
  "e2fsprogs",
  "git",
  "iproute2",
  "iputils-ping",
  "kmod",
  "libpam-systemd",
  "openssh-server",
  "procps",
  "sudo",
  "systemd-sysv",
  "udev",
  "xz-utils",
];
/** What dpkg leaves out: documentation that nobody reads in a disposable machine. Licences stay. */
const DPKG_OPTIONS: readonly string[] = [
  "path-exclude=/usr/share/doc/*",
  "path-include=/usr/share/doc/*/copyright",
  "path-exclude=/usr/share/man/*",
  "path-exclude=/usr/share/info/*",
  "path-exclude=/usr/share/locale/*",
  "path-include=/usr/share/locale/locale.alias",
];
const FALLBACK_SUITE = "bookworm";
const BUILD_TIMEOUT_MS = 45 * 60_000;
const MKE2FS_TIMEOUT_MS = 10 * 60_000;
const CAP_SYS_ADMIN = 21n;
const MIB = 1024 * 1024;
/** Room in the image beyond its files: the prebuild grows the file system before it installs anything. */
const SPARE_MIB = 256;

/** Where each of mmdebstrap's own messages leaves us, for people who wait. */
const STEPS: ReadonlyArray<[pattern: RegExp, step: string]> = [
  [/running apt-get update/, "reading package lists"],
  [/downloading packages/, "downloading packages"],
  [/extracting archives/, "unpacking the essential packages"],
  [/installing essential/, "installing the essential packages"],
  [/installing remaining/, "installing packages"],
];

/**
 * The base image for these options: the one in `<diskDirectory>/base/` if it was built before, else a new one.
 * Callers hold the images lock. An abort or a failure leaves nothing.
 * @throws FleetingdError MISSING_PROGRAM, PERMISSION, UNAVAILABLE (packages cannot be had), EXHAUSTED (disk full), CANCELLED, TIMEOUT.
 */
export async function buildDebianPackages(options: DebianPackagesOptions): Promise<BaseImage> {
  const recipe = await makeRecipe(options);
  const directory = join(options.diskDirectory, "base", recipe.name);
  const cached = await readBaseImage(directory);
  if (cached !== undefined) return cached;
  await requirePrograms();
  await publishDirectory(directory, (temporary) => build(temporary, recipe, options));
  const image = await readBaseImage(directory);
  if (image === undefined) throw new FleetingdError("INTERNAL", `${directory} was built but cannot be read`);
  return image;
}

interface Recipe {
  name: string;
  suite: string;
  mirrors: readonly string[];
  packages: readonly string[];
  customizeScript: string;
}

async function makeRecipe(options: DebianPackagesOptions): Promise<Recipe> {
  const suite = options.suite ?? (await hostSuite()) ?? FALLBACK_SUITE;
  if (!/^[a-z][a-z0-9.-]*$/.test(suite)) {
    throw new FleetingdError(
      "INVALID_ARGUMENT",
      `${JSON.stringify(suite)} is not the name of a Debian release`,
      {
        hint: "Give a codename such as bookworm.",
      },
    );
  }
  const mirrors = options.mirrors ?? (await hostEntriesForSuite(suite));
  const kernel = `linux-image-cloud-${debianArchitecture()}`;
  const packages = [...new Set([kernel, ...PACKAGES, ...(options.packages ?? [])])].sort();
  const customizeScript = await packageFile("templates/debian-packages/customize");
  const inputs = [suite, mirrors, packages, DPKG_OPTIONS, await readFile(customizeScript, "utf8")];
  const hash = createHash("sha256")
    .update(JSON.stringify([...inputs, await readInitScript()]))
    .digest("hex");
  return { name: `debian-packages-${suite}-${hash.slice(0, 12)}`, suite, mirrors, packages, customizeScript };
}

async function build(directory: string, recipe: Recipe, options: DebianPackagesOptions): Promise<void> {
  const { signal, onProgress } = options;
  const root = join(directory, "root");
  try {
    await installPackages(root, recipe, options);
    onProgress?.({ step: "configuring the system" });
    await run("sh", [recipe.customizeScript, root], { signal, timeoutMs: 60_000 });
    const release = await kernelRelease(root);
    await copyFile(join(root, "boot", `vmlinuz-${release}`), join(directory, "kernel"));
    const modules = await readKernelModules(root, release, [...BOOT_MODULES, CONSOLE_MODULE]);
    await writeFileAtomic(join(directory, "initrd"), await buildInitrd(modules));
    onProgress?.({ step: "writing the disk image" });
    await makeFileSystem(root, join(directory, "disk.raw"), signal);
  } catch (error) {
    throw explain(error);
  } finally {
    await removeBuildTree(root);
  }
  await writeBaseImage(directory, {
    name: recipe.name,
    disk: "disk.raw",
    diskFormat: "raw",
    kernel: "kernel",
    initrd: "initrd",
    rootDevice: "/dev/vda",
    kernelArguments: [],
    createdAt: new Date().toISOString(),
  });
}

async function installPackages(root: string, recipe: Recipe, options: DebianPackagesOptions): Promise<void> {
  // Of their own pid namespace, so that one signal ends all of apt and dpkg; of their own mount namespace, so that no mount gets out.
  const isolation = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"];
  const mmdebstrap = ["mmdebstrap", "--mode=root", "--variant=apt", `--include=${recipe.packages.join(",")}`];
  const dpkg = DPKG_OPTIONS.map((option) => `--dpkgopt=${option}`);
  await run("unshare", [...isolation, ...mmdebstrap, ...dpkg, recipe.suite, root, ...recipe.mirrors], {
    timeoutMs: BUILD_TIMEOUT_MS,
    signal: options.signal,
    // INITRD=No: we bring our own, and building one takes long. The locale: perl complains about a missing one.
    env: { INITRD: "No", DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C.UTF-8" },
    onLine: (line) => {
      const step = STEPS.find(([pattern]) => pattern.test(line))?.[1];
      if (step !== undefined) options.onProgress?.({ step });
    },
  });
}

async function kernelRelease(root: string): Promise<string> {
  const releases = (await listDirectory(join(root, "boot")))
    .filter((name) => name.startsWith("vmlinuz-"))
    .map((name) => name.slice("vmlinuz-".length));
  const [release] = releases;
  if (release === undefined || releases.length > 1) {
    throw new FleetingdError("CORRUPT", `expected one kernel in the new image but found ${releases.length}`);
  }
  return release;
}

async function makeFileSystem(root: string, path: string, signal: AbortSignal | undefined): Promise<void> {
  const { stdout } = await run("du", ["--summarize", "--block-size=1M", "--one-file-system", root], {
    signal,
  });
  const usedMiB = Number.parseInt(stdout, 10);
  const sizeMiB = Math.ceil((usedMiB * 1.2 + SPARE_MIB) / 64) * 64;
  await writeFileAtomic(path, "");
  await truncate(path, sizeMiB * MIB);
  // A clone's file system is never checked nor full: few reserved blocks, and no zeroing that would fill the sparse file.
  const settings = ["-t", "ext4", "-q", "-F", "-m", "1", "-L", "fleetingd-root"];
  await run("mke2fs", [...settings, "-E", "lazy_itable_init=1,lazy_journal_init=1", "-d", root, path], {
    timeoutMs: MKE2FS_TIMEOUT_MS,
    signal,
  });
}

async function requirePrograms(): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new FleetingdError("PERMISSION", "building a base image from packages needs root", {
      hint: "Run as root, or give an image with kernel and initrd of your own.",
    });
  }
  if (!(await mayMount())) {
    throw new FleetingdError(
      "PERMISSION",
      "building a base image from packages needs the capability CAP_SYS_ADMIN, which this daemon's systemd unit does not have",
      {
        hint: "Install the drop-in building-images.conf (docs/security.md says how), or choose an image that is fetched.",
      },
    );
  }
  for (const [program, packageName] of [
    ["mmdebstrap", "mmdebstrap"],
    ["mke2fs", "e2fsprogs"],
    ["busybox", "busybox-static"],
  ] as const) {
    if ((await findProgram(program)) !== undefined) continue;
    throw new FleetingdError(
      "MISSING_PROGRAM",
      `building a base image from packages needs ${program}, which was not found on PATH`,
      { hint: `Install the package ${packageName}.` },
    );
  }
}

/** Whether this process has CAP_SYS_ADMIN. */
async function mayMount(): Promise<boolean> {
  const capabilities =
    /^CapEff:\s+([0-9a-f]+)$/m.exec(await readFile("/proc/self/status", "utf8"))?.[1] ?? "0";
  return ((BigInt(`0x${capabilities}`) >> CAP_SYS_ADMIN) & 1n) === 1n;
}

/** Says what the last lines of a failed program mean, where that is known. */
function explain(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const message = messageOf(error);
  if (
    /No space left on device|ENOSPC|You don't have enough free space|Could not allocate block/.test(message)
  ) {
    return new FleetingdError("EXHAUSTED", "the disk is full: could not build the base image from packages", {
      hint: "Free about 2 GB in the disk directory, or choose another one.",
      cause: error,
    });
  }
  if (error instanceof FleetingdError && error.code === "COMMAND_FAILED" && message.includes("mmdebstrap")) {
    const lines = message.split("\n").slice(1).join("\n");
    return new FleetingdError("UNAVAILABLE", `could not build the base image from packages:\n${lines}`, {
      hint: "Check that the package mirror can be reached and has this release, or set another mirror.",
      cause: error,
    });
  }
  return error;
}

async function hostSuite(): Promise<string | undefined> {
  if (!(await exists("/etc/os-release"))) return undefined;
  const release = await readFile("/etc/os-release", "utf8");
  if (!/^ID=debian$/m.test(release)) return undefined;
  return /^VERSION_CODENAME=(\w+)$/m.exec(release)?.[1];
}

function debianArchitecture(): string {
  return process.arch === "x64" ? "amd64" : process.arch;
}
