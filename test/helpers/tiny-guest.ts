/**
 * A guest for tests of hypervisors: a distribution's kernel and a busybox initrd. It boots within seconds even under
 * emulation, prints what it sees of its machine, and reacts to the power button as it was told.
 *
 * `node --import tsx test/helpers/tiny-guest.ts` prepares it: the kernel comes from the distribution's packages, so
 * that has to be done once where there is a network, before the tests enter their own network namespace.
 * Needed: apt with package lists, dpkg-deb, busybox-static, cpio; xz and zstd for newer kernels' modules.
 */
import { createHash } from "node:crypto";
import { chmod, copyFile, mkdir, mkdtemp, readdir, rename, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { exists, findProgram, removeTree } from "../../src/host/files.ts";
import { withLock } from "../../src/host/lock.ts";
import { run } from "../../src/host/run.ts";

export interface TinyGuest {
  kernelPath: string;
  initrdPath: string;
}

/** Words for the guest's kernel command line. */
export const TINY = {
  /** The power button does nothing. */
  ignoreButton: "tiny.button=ignore",
  /** What it does by itself after its report. */
  thenPowerOff: "tiny.then=poweroff",
  thenReboot: "tiny.then=reboot",
  thenPanic: "tiny.then=panic",
  /** It answers each line that it hears on its channel with `<line> heard`, until the channel is gone. */
  thenListen: "tiny.then=listen",
} as const;

/** The last line of the guest's report. */
export const TINY_READY = "tiny: ready";
/** What it prints when the power button was pressed. */
export const TINY_BYE = "tiny: power button";
/** What it prints when its channel was taken away. */
export const TINY_DEAF = "tiny: no channel";

const CACHE = fileURLToPath(new URL("../../.cache/tiny-guest", import.meta.url));
const META_PACKAGES: Readonly<Record<string, readonly string[]>> = {
  x64: ["linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64"],
  arm64: ["linux-image-cloud-arm64", "linux-image-virtual", "linux-image-arm64"],
};
/** In the order in which they have to be loaded; what a kernel has built in is no file and is left out. */
const MODULES = [
  ...["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"],
  ...["virtio_console", "virtio_blk", "failover", "net_failover", "virtio_net", "virtio_balloon"],
  ...["evdev", "button", "pvpanic", "pvpanic-pci"],
];

const INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
while read -r module; do insmod /modules/$module; done < /modules/order
exec > /dev/console 2>&1
word() { sed -n "s/.*tiny\\.$1=\\([a-z]*\\).*/\\1/p" /proc/cmdline; }
echo "tiny: cpus=$(nproc) memory=$(sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)"
echo "tiny: cmdline=$(cat /proc/cmdline)"
for disk in /sys/block/vd*; do
  [ -e "$disk" ] || continue
  echo "tiny: disk \${disk##*/} serial=$(cat $disk/serial) sectors=$(cat $disk/size) ro=$(cat $disk/ro) text=$(head -c 8 /dev/\${disk##*/})"
  [ "$(cat $disk/ro)" = 0 ] && printf 'written' | dd of=/dev/\${disk##*/} bs=512 seek=1 conv=notrunc,fsync 2> /dev/null
done
for nic in /sys/class/net/eth*; do
  [ -e "$nic" ] || continue
  echo "tiny: nic \${nic##*/} mac=$(cat $nic/address)"
done
[ "$(word button)" = ignore ] || acpid -d -f > /dev/null 2>&1 &
sleep 0.2
echo "${TINY_READY}"
case "$(word then)" in
  poweroff) poweroff -f ;;
  reboot) reboot -f ;;
  panic) echo c > /proc/sysrq-trigger ;;
  listen)
    exec 3<>/dev/$(basename /sys/class/virtio-ports/vport*p[1-9])
    while read -r line <&3; do echo "$line heard" >&3; done
    exec 3<&-
    sleep 0.2
    [ -e /sys/class/virtio-ports/vport*p[1-9] ] || echo "${TINY_DEAF}" ;;
esac
while :; do sleep 60; done
`;

const ON_BUTTON = `#!/bin/busybox sh
echo "${TINY_BYE}" > /dev/console
/bin/busybox poweroff -f
`;

/** Makes the guest, or finds it in the cache; concurrent calls, also of other processes, are one. */
export async function prepareTinyGuest(): Promise<TinyGuest> {
  const version = createHash("sha256").update(INIT).update(ON_BUTTON).update(MODULES.join()).digest("hex");
  const guest = {
    kernelPath: join(CACHE, "vmlinuz"),
    initrdPath: join(CACHE, `initrd-${version.slice(0, 12)}`),
  };
  if (await isComplete(guest)) return guest;
  await withLock(join(CACHE, "lock"), { timeoutMs: 600_000 }, async () => {
    if (await isComplete(guest)) return;
    const scratch = await mkdtemp(join(CACHE, "making-"));
    try {
      await makeGuest(scratch, guest);
    } finally {
      await removeTree(scratch);
    }
  });
  return guest;
}

async function isComplete(guest: TinyGuest): Promise<boolean> {
  return (await exists(guest.kernelPath)) && (await exists(guest.initrdPath));
}

async function makeGuest(scratch: string, guest: TinyGuest): Promise<void> {
  const kernel = await unpackKernel(scratch);
  const initrd = join(scratch, "initrd.img");
  await packInitrd(join(scratch, "initrd"), kernel, initrd);
  const image = (await readdir(join(kernel, "boot"))).find((name) => /^vmlinu[xz]-/.test(name));
  if (image === undefined) throw new Error(`the kernel packages hold no kernel: ${kernel}/boot`);
  await rename(join(kernel, "boot", image), guest.kernelPath);
  await rename(initrd, guest.initrdPath);
}

/** Downloads the distribution's kernel for VMs and unpacks it, without installing anything. */
async function unpackKernel(scratch: string): Promise<string> {
  const root = join(scratch, "kernel");
  await mkdir(root);
  // Root's downloads are done by a user who may not write here.
  const options = ["-q", "-o", "APT::Sandbox::User=root"];
  const download = [...options, "download", ...(await kernelPackages())];
  await run("apt-get", download, { cwd: scratch, timeoutMs: 300_000 }).catch((cause: unknown) => {
    const hint = "run `node --import tsx test/helpers/tiny-guest.ts` where there is a network";
    throw new Error(`the test guest's kernel could not be downloaded; ${hint}`, { cause });
  });
  for (const name of await readdir(scratch)) {
    if (name.endsWith(".deb"))
      await run("dpkg-deb", ["-x", join(scratch, name), root], { timeoutMs: 120_000 });
  }
  return root;
}

async function kernelPackages(): Promise<string[]> {
  const metas = META_PACKAGES[process.arch] ?? [];
  for (const meta of metas) {
    const { stdout } = await run("apt-cache", ["depends", meta], { acceptedExitCodes: [0, 100] });
    const version = /Depends: linux-image-(\d\S*)/.exec(stdout)?.[1];
    if (version === undefined) continue;
    // Ubuntu has the modules in a package of their own.
    const modules = `linux-modules-${version}`;
    const shown = await run("apt-cache", ["show", modules], { acceptedExitCodes: [0, 100] });
    return [`linux-image-${version}`, ...(shown.stdout.includes(`Package: ${modules}\n`) ? [modules] : [])];
  }
  throw new Error(`apt knows none of the kernel packages ${metas.join(", ")}; run "apt-get update" as root`);
}

async function packInitrd(root: string, kernel: string, target: string): Promise<void> {
  for (const name of ["bin", "dev", "proc", "sys", "modules", "etc/acpi/PWRF"]) {
    await mkdir(join(root, name), { recursive: true });
  }
  const busybox = await findProgram("busybox");
  if (busybox === undefined) throw new Error("busybox is missing; install the package busybox-static");
  await copyFile(busybox, join(root, "bin/busybox"));
  await symlink("busybox", join(root, "bin/sh"));
  await writeFile(join(root, "init"), INIT);
  await writeFile(join(root, "etc/acpi/PWRF/00000080"), ON_BUTTON);
  for (const script of ["init", "etc/acpi/PWRF/00000080"]) await chmod(join(root, script), 0o755);
  await writeFile(join(root, "modules/order"), await copyModules(kernel, join(root, "modules")));
  const names = await readdir(root, { recursive: true });
  await run("cpio", ["--quiet", "--create", "--format=newc", "-O", target], {
    cwd: root,
    input: `${[".", ...names].join("\n")}\n`,
  });
}

/** Copies what there is of `MODULES`, unpacked; answers the file names, one a line, in their order. */
async function copyModules(kernel: string, target: string): Promise<string> {
  const files = (await readdir(kernel, { recursive: true })).filter((name) =>
    /\.ko(\.xz|\.zst)?$/.test(name),
  );
  const order: string[] = [];
  for (const module of MODULES) {
    const file = files.find((name) => basename(name).split(".", 1)[0] === module);
    if (file === undefined) continue;
    const copy = join(target, basename(file));
    await copyFile(join(kernel, file), copy);
    if (copy.endsWith(".xz")) await run("xz", ["-d", copy]);
    if (copy.endsWith(".zst")) await run("zstd", ["-q", "-d", "--rm", copy]);
    order.push(`${module}.ko\n`);
  }
  return order.join("");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const guest = await prepareTinyGuest();
  process.stdout.write(`${guest.kernelPath}\n${guest.initrdPath}\n`);
}
