/**
 * The daemon's programs and its guest: Debian's packages, unpacked into a folder in `.cache`. It needs a network and takes a minute;
 * a second call finds everything there.
 */
import { copyFile, readFile, rmdir, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "../../../src/host/run.ts";
import { type CpioEntry, writeCpio } from "../../../src/images/cpio.ts";
import { cacheFolder, makeOnce } from "../made-once.ts";
import { UDHCPC_SCRIPT } from "../server-namespaces.ts";
import { prepareTinyGuest } from "../tiny-guest.ts";

const GUEST_INIT = fileURLToPath(new URL("guest-init.sh", import.meta.url));
const SUITE = "trixie";
/** Unpacked and not installed: no script of a package is run, so what those would make is made here. */
const PACKAGES = [
  ...["libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-daemon-driver-network"],
  ...["libvirt-daemon-driver-storage", "libvirt-clients", "qemu-system-x86", "qemu-utils"],
  ...["dnsmasq-base", "nftables", "iproute2", "bash", "dash", "coreutils", "findutils", "grep", "util-linux"],
  ...["mount", "base-files", "debianutils", "dropbear-bin", "openssh-server", "qemu-guest-agent"],
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
  return makeOnce(cacheFolder("libvirt-server", recipe), async (scratch) => {
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
  });
}

/** Of the root that is there anyway. */
const GUEST_PROGRAMS = ["usr/sbin/dropbear", "usr/sbin/qemu-ga"];

/** What the tiny guest lacks: an SSH server and the guest agent with their libraries, and who may log in. */
async function packGuest(root: string): Promise<Buffer> {
  const libraries = new Set<string>();
  for (const program of GUEST_PROGRAMS) {
    const list = [root, "/usr/lib64/ld-linux-x86-64.so.2", "--list", `/${program}`];
    const { stdout } = await run("chroot", list);
    for (const [path] of stdout.matchAll(/\/\S+/g)) libraries.add(path.slice(1));
  }
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
    "usr/sbin",
    "var",
    "var/run",
    "run",
  ];
  return writeCpio([
    ...[...folders, "usr/lib/x86_64-linux-gnu", "usr/lib64"].map((path) => ({
      path,
      type: "directory" as const,
    })),
    await file("init", GUEST_INIT),
    await file("etc/udhcpc.sh", UDHCPC_SCRIPT),
    ...(await Promise.all([...libraries, ...GUEST_PROGRAMS].map((path) => file(path, join(root, path))))),
    text("etc/passwd", "root:*:0:0::/root:/bin/sh\n"),
    text("etc/group", "root:x:0:\n"),
    text("etc/shells", "/bin/sh\n"),
  ]);
}
