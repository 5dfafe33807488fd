import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { VmSpec } from "../../../src/hypervisor/driver.ts";
import { parseVmProcess, type QemuSettings, qemuArguments } from "../../../src/hypervisor/qemu/arguments.ts";
import { platformOf } from "../../../src/hypervisor/qemu/platform.ts";

const EMULATED: QemuSettings = {
  platform: platformOf("x64"),
  machine: "pc-q35-7.2",
  version: "7.2.22",
  accelerator: "tcg",
  vhostNet: false,
  readOnlyMemoryFile: false,
};

const SPEC: VmSpec = {
  id: "vm-1",
  directory: "/var/lib/fleetingd/vms/vm-1",
  vcpus: 1,
  memoryMiB: 512,
  kernelPath: "/images/vmlinuz",
  initrdPath: "/images/initrd",
  kernelArguments: ["root=/dev/vda", "ro"],
  disks: [
    { path: "/vms/vm-1/disk", format: "qcow2", readOnly: false, serial: "root" },
    { path: "/vms/vm-1/seed", format: "raw", readOnly: true, serial: "seed" },
  ],
  nics: [{ tapName: "flt0", macAddress: "52:54:00:12:34:56" }],
  console: "serial",
};

function shown(spec: VmSpec, settings: QemuSettings = EMULATED): string {
  return qemuArguments(spec, settings).join(" ").replaceAll(" -", "\n-");
}

describe("QEMU's arguments", () => {
  test("of an emulated VM", () => {
    assert.equal(
      shown(SPEC),
      [
        "-name guest=vm-1,process=fleeting-vm,debug-threads=on",
        "-nodefaults",
        "-no-user-config",
        "-display none",
        "-machine pc-q35-7.2,usb=off,vmport=off,sata=off,smbus=off,dump-guest-core=off",
        "-accel tcg,tb-size=64",
        "-cpu EPYC-v1",
        "-m 512M",
        "-smp cpus=1,sockets=1,cores=1,threads=1",
        "-kernel /images/vmlinuz",
        "-initrd /images/initrd",
        "-append console=ttyS0 panic=5 root=/dev/vda ro",
        "-chardev file,id=console,append=on,path=/var/lib/fleetingd/vms/vm-1/console.log",
        "-serial chardev:console",
        '-blockdev {"driver":"qcow2","node-name":"disk0","read-only":false,"discard":"unmap","detect-zeroes":"unmap","cache":{"direct":false,"no-flush":true},"file":{"driver":"file","filename":"/vms/vm-1/disk","read-only":false,"discard":"unmap","cache":{"direct":false,"no-flush":true}}}',
        "-device virtio-blk-pci,drive=disk0,serial=root,rerror=report,werror=report",
        '-blockdev {"driver":"raw","node-name":"disk1","read-only":true,"cache":{"direct":false,"no-flush":true},"file":{"driver":"file","filename":"/vms/vm-1/seed","read-only":true,"cache":{"direct":false,"no-flush":true}}}',
        "-device virtio-blk-pci,drive=disk1,serial=seed,rerror=report,werror=report",
        "-netdev tap,id=net0,ifname=flt0,script=no,downscript=no",
        "-device virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56,romfile=",
        "-device virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on",
        "-object rng-random,id=random,filename=/dev/urandom",
        "-device virtio-rng-pci,rng=random",
        "-device pvpanic-pci",
        "-action panic=shutdown",
        "-qmp unix:qmp.sock,server=on,wait=off",
        "-sandbox on,obsolete=deny,spawn=deny,resourcecontrol=deny,elevateprivileges=deny",
      ].join("\n"),
    );
  });

  test("with KVM: the host's processor without nested virtualization, and the kernel's packet path", () => {
    const text = shown(SPEC, { ...EMULATED, accelerator: "kvm", vhostNet: true });
    assert.match(text, /\n-accel kvm\n-cpu host,vmx=off,svm=off\n/);
    assert.match(text, /-netdev tap,.*,vhost=on\n/);
    assert.doesNotMatch(text, /tcg|EPYC/);
  });

  test("several emulated processors run in threads of their own", () => {
    const text = shown({ ...SPEC, vcpus: 4 });
    assert.match(text, /-accel tcg,tb-size=64,thread=multi\n/);
    assert.match(text, /-smp cpus=4,sockets=1,cores=4,threads=1\n/);
  });

  test("a small clone gets a smaller cache of translated code, and none a larger one than a VM that boots", () => {
    const sizes = [256, 512, 768, 1_024, 8_192].map((memoryMiB) => {
      const args = qemuArguments({ ...SPEC, memoryMiB }, EMULATED, { memoryPath: "/t/memory" });
      return /tb-size=(\d+)/.exec(args.join(" "))?.[1];
    });
    assert.deepEqual(sizes, ["32", "32", "48", "64", "64"]);
  });

  test("a virtio console takes the place of the serial port", () => {
    const text = shown({ ...SPEC, console: "virtio" });
    assert.match(text, /-append console=hvc0 panic=5 root/);
    assert.match(text, /console.log\n-device virtio-serial-pci\n-device virtconsole,chardev=console\n/);
    assert.doesNotMatch(text, /\n-serial|ttyS0/);
  });

  test("no initrd, no disks, no network", () => {
    const text = shown({ ...SPEC, initrdPath: undefined, disks: [], nics: [] });
    assert.doesNotMatch(text, /-initrd|-blockdev|-netdev/);
  });

  test("a template's memory is a file, and its clones map the same file privately", () => {
    const template = { ...SPEC, hasChannel: true, memoryPath: "/t,1/memory" };
    const text = shown(template);
    assert.match(text, /-machine pc-q35-7.2,.*,memory-backend=ram\n/);
    assert.match(text, /-object memory-backend-file,id=ram,size=512M,mem-path=\/t,,1\/memory,share=on\n/);
    // It would give the file's memory back, and with it that of all clones.
    assert.doesNotMatch(text, /balloon|-incoming/);
    const cloned = { memoryPath: "/t,1/memory" };
    const clone = qemuArguments({ ...SPEC, hasChannel: true }, EMULATED, cloned);
    assert.deepEqual(
      clone,
      [...qemuArguments(template, EMULATED), "-S", "-incoming", "defer"].map((argument) =>
        argument.replace("share=on", "share=off").replace("tb-size=64", "tb-size=32"),
      ),
    );
    const newer = qemuArguments(
      { ...SPEC, hasChannel: true },
      { ...EMULATED, readOnlyMemoryFile: true },
      cloned,
    );
    assert.ok(newer.some((argument) => argument.endsWith(",share=off,readonly=on,rom=off")));
  });

  test("a clone boots again with the kernel that it can map, if there is one", () => {
    const kernelOf = (kernelPath: string | undefined): string | undefined => {
      const words = qemuArguments(SPEC, EMULATED, { memoryPath: "/t/memory", kernelPath });
      return words[words.indexOf("-kernel") + 1];
    };
    assert.equal(kernelOf("/t/vmlinux"), "/t/vmlinux");
    assert.equal(kernelOf(undefined), SPEC.kernelPath);
  });

  test("the channel is a port with a name, on the console's own device if there is one", () => {
    const channel =
      "-chardev socket,id=channel,path=channel.sock,server=on,wait=off\n-device virtserialport,id=channel-port,chardev=channel,name=fleetingd\n";
    const withSerial = shown({ ...SPEC, hasChannel: true });
    assert.ok(withSerial.includes(`-serial chardev:console\n-device virtio-serial-pci\n${channel}`));
    const withVirtio = shown({ ...SPEC, hasChannel: true, console: "virtio" });
    assert.ok(withVirtio.includes(`-device virtconsole,chardev=console\n${channel}`));
  });

  test("on arm64", () => {
    const text = shown(SPEC, { ...EMULATED, platform: platformOf("arm64"), machine: "virt-7.2" });
    assert.match(text, /-machine virt-7.2,gic-version=max,/);
    assert.match(text, /console=ttyAMA0/);
    assert.throws(() => platformOf("s390x"), { code: "UNAVAILABLE" });
  });

  test("a user of its own, once all is open, in the words of each version", () => {
    const end = (version: string) =>
      shown({ ...SPEC, user: 70_001 }, { ...EMULATED, version })
        .split("\n")
        .slice(-3);
    const sandbox = "-sandbox on,obsolete=deny,spawn=deny,resourcecontrol=deny";
    for (const version of ["6.2.0", "7.2.22"]) {
      assert.deepEqual(end(version), [sandbox, "-chroot .", "-runas 70001:70001"]);
    }
    assert.deepEqual(end("8.2.2"), [sandbox, "-run-with chroot=.", "-runas 70001:70001"]);
    for (const version of ["9.1.0", "10.0.13"]) {
      assert.deepEqual(end(version).slice(1), [sandbox, "-run-with chroot=.,user=70001:70001"]);
    }
  });

  test("commas in paths are doubled where QEMU splits at them, and only there", () => {
    const args = qemuArguments({ ...SPEC, directory: "/a,b/vm-1", kernelPath: "/k,1" }, EMULATED);
    assert.ok(args.includes("file,id=console,append=on,path=/a,,b/vm-1/console.log"));
    assert.ok(args.includes("/k,1"));
  });
});

describe("a process is recognised by its arguments", () => {
  const argumentVector = [
    "qemu-system-x86_64",
    ...qemuArguments({ ...SPEC, directory: "/a,b/vm-1" }, EMULATED),
  ];

  test("with its id and directory", () => {
    assert.deepEqual(parseVmProcess(argumentVector), { id: "vm-1", directory: "/a,b/vm-1" });
  });

  test("but not other programs", () => {
    assert.equal(parseVmProcess(["qemu-system-x86_64", "-name", "guest=web,debug-threads=on"]), undefined);
    assert.equal(parseVmProcess(["sleep", "100"]), undefined);
    assert.equal(parseVmProcess([]), undefined);
  });
});
