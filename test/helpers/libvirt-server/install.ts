/**
 * The daemon's programs and its guest: Debian's packages, unpacked into a folder in `.cache`. It needs a network and takes a minute;
 * a second call finds everything there.
 */
import { createHash } from "node:crypto";
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readFile,
  rename,
  rmdir,
  symlink,
  writeFile,
} from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { exists, removeTree } from "../../../src/host/files.ts";
import { withLock } from "../../../src/host/lock.ts";
import { run } from "../../../src/host/run.ts";
import { type CpioEntry, writeCpio } from "../../../src/images/cpio.ts";
import { UDHCPC_SCRIPT } from "../server-namespaces.ts";
import { prepareTinyGuest } from "../tiny-guest.ts";

const CACHE = fileURLToPath(new URL("../../../.cache/libvirt-server", import.meta.url));
const GUEST_INIT = fileURLToPath(new URL("guest-init.sh", import.meta.url));
const SUITE = "trixie";
/** Unpacked and not installed: no script of a package is run, so what those would make is made here. */
const PACKAGES = [
  ...["libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-daemon-driver-network"],
  ...["libvirt-daemon-driver-storage", "libvirt-clients", "qemu-system-x86", "qemu-utils"],
  ...["dnsmasq-base", "nftables", "iproute2", "bash", "dash", "coreutils", "findutils", "grep", "util-linux"],
  ...["mount", "base-files", "debianutils", "dropbear-bin", "openssh-server"],
];
/** Of the user `ci`, who may use libvirt and log in by SSH; the hash is what `openssl passwd -6` makes of it. */
export const SSH_USER_PASSWORD = {
  text: "geheim",
  hash: "$6$fleetingd$mlBWBphYvYQS97JuzWgpzPbV9dYNxFuhU1sy.4nujBdfDtOIr1LIs.92SNXeQR1.LcDW994sPNnuhobPrVaR6.",
};
const USERS = [
  "root:x:0:0:root:/root:/bin/sh",
  `ci:${SSH_USER_PASSWORD.hash}:1000:1000::/home/ci:/bin/bash`,
  "sshd:x:100:65534::/run/sshd:/bin/false",
  "libvirt-qemu:x:64055:64055::/:/bin/false",
  "nobody:x:65534:65534::/:/bin/false",
];
const GROUPS = [
  "root:x:0:",
  "libvirt-qemu:x:64055:",
  "kvm:x:104:",
  "libvirt:x:105:ci",
  "ci:x:1000:",
  "nogroup:x:65534:",
];
/** Within the test's namespaces there are no control groups, and no other users. */
const QEMU_CONF = [
  'security_driver = "none"',
  'user = "root"',
  'group = "root"',
  "remember_owner = 0",
  "cgroup_controllers = []",
  "namespaces = []",
  'stdio_handler = "file"',
];

/** @returns the folder with `root`, `vmlinuz` and `initrd` */
export async function prepareLibvirtServer(): Promise<string> {
  const tiny = await prepareTinyGuest();
  const scripts = await Promise.all([GUEST_INIT, UDHCPC_SCRIPT].map((path) => readFile(path, "utf8")));
  const recipe = [SUITE, PACKAGES, USERS, GROUPS, QEMU_CONF, scripts, basename(tiny.initrdPath)];
  const version = createHash("sha256").update(JSON.stringify(recipe)).digest("hex").slice(0, 12);
  const made = join(CACHE, version);
  if (await exists(made)) return made;
  await mkdir(CACHE, { recursive: true });
  await withLock(join(CACHE, "lock"), { timeoutMs: 600_000 }, async () => {
    if (await exists(made)) return;
    const scratch = await mkdtemp(join(CACHE, "making-"));
    try {
      const root = join(scratch, "root");
      const options = ["--quiet", "--mode=root", "--variant=extract", `--include=${PACKAGES.join(",")}`];
      await run("mmdebstrap", [...options, SUITE, root], { timeoutMs: 600_000 });
      await writeFile(join(root, "etc/passwd"), `${USERS.join("\n")}\n`);
      await writeFile(join(root, "etc/group"), `${GROUPS.join("\n")}\n`);
      await writeFile(join(root, "etc/libvirt/qemu.conf"), `${QEMU_CONF.join("\n")}\n`);
      await symlink("which.debianutils", join(root, "usr/bin/which"));
      await rmdir(join(root, "var/run"));
      await symlink("/run", join(root, "var/run"));
      await copyFile(tiny.kernelPath, join(scratch, "vmlinuz"));
      const guest = await packGuest(root);
      await writeFile(join(scratch, "initrd"), Buffer.concat([await readFile(tiny.initrdPath), guest]));
      await chmod(scratch, 0o755);
      await rename(scratch, made);
    } finally {
      await removeTree(scratch);
    }
  });
  return made;
}

/** What the tiny guest lacks: dropbear with its libraries, of the root that is there anyway, and who may log in. */
async function packGuest(root: string): Promise<Buffer> {
  const { stdout } = await run("chroot", [
    root,
    "/usr/lib64/ld-linux-x86-64.so.2",
    "--list",
    "/usr/sbin/dropbear",
  ]);
  const libraries = [...stdout.matchAll(/\/\S+/g)].map(([path]) => path.slice(1));
  const file = async (path: string, source: string, mode = 0o755): Promise<CpioEntry> => ({
    path,
    type: "file",
    mode,
    data: await readFile(source),
  });
  const text = (path: string, data: string): CpioEntry => ({ path, type: "file", data });
  const folders = [
    "etc",
    "lib",
    "lib/x86_64-linux-gnu",
    "lib64",
    "root",
    "sbin",
    "usr",
    "usr/lib",
    "var",
    "run",
  ];
  return writeCpio([
    ...[...folders, "usr/lib/x86_64-linux-gnu", "usr/lib64"].map((path) => ({
      path,
      type: "directory" as const,
    })),
    await file("init", GUEST_INIT),
    await file("etc/udhcpc.sh", UDHCPC_SCRIPT),
    await file("sbin/dropbear", join(root, "usr/sbin/dropbear")),
    ...(await Promise.all(libraries.map((path) => file(path, join(root, path))))),
    text("etc/passwd", "root:*:0:0::/root:/bin/sh\n"),
    text("etc/group", "root:x:0:\n"),
    text("etc/shells", "/bin/sh\n"),
  ]);
}
