import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { reasonsOf } from "../../../src/hypervisor/cloud-hypervisor/api-error.ts";
import { parseVmmProcess, vmmArguments } from "../../../src/hypervisor/cloud-hypervisor/arguments.ts";
import { capabilitiesOf } from "../../../src/hypervisor/cloud-hypervisor/capabilities.ts";
import { eventReader } from "../../../src/hypervisor/cloud-hypervisor/events.ts";
import { cloneConfig } from "../../../src/hypervisor/cloud-hypervisor/snapshot.ts";
import { vmConfig } from "../../../src/hypervisor/cloud-hypervisor/vm-config.ts";
import type { VmSpec } from "../../../src/hypervisor/driver.ts";
import { loadApiDescription } from "../../helpers/cloud-hypervisor/api-description.ts";

const SPEC: VmSpec = {
  id: "vm-1",
  directory: "/vms/vm-1",
  vcpus: 2,
  memoryMiB: 512,
  kernelPath: "/images/vmlinuz",
  initrdPath: "/images/initrd",
  kernelArguments: ["root=/dev/vda"],
  disks: [
    { path: "/clones/vm-1/disk", format: "qcow2", readOnly: false, serial: "root" },
    { path: "/vms/vm-1/seed.iso", format: "raw", readOnly: true, serial: "seed" },
  ],
  nics: [{ tapName: "fltap1", macAddress: "52:54:00:aa:bb:cc" }],
  console: "serial",
};
const NEWEST = capabilitiesOf("54.0.0");

describe("what a refusal says", () => {
  const cases: [name: string, status: number, body: string, text: string][] = [
    [
      "the reasons, without what was called",
      500,
      '["Error from API","The VM could not boot","Cannot open kernel file","No such file or directory (os error 2)"]',
      "Cannot open kernel file: No such file or directory (os error 2)",
    ],
    ["a chain of one", 400, '["Bad Request"]', "Bad Request"],
    [
      "an object that is no JSON",
      400,
      '{ "error": "Invalid request.\nTry again" }',
      "Invalid request. Try again",
    ],
    ["nothing", 400, "", "status 400, without a reason"],
    [
      "no backtrace",
      500,
      '["a","b","c(1\\n\\nStack backtrace:\\n   0: <unknown>\\n   1: <unknown>)"]',
      "c(1",
    ],
    ["what is neither", 502, "<html>", "<html>"],
  ];
  for (const [name, status, body, text] of cases)
    test(name, () => assert.equal(reasonsOf({ status, body }), text));
});

describe("versions", () => {
  test("too old ones are refused in a sentence that says what to do", () => {
    assert.throws(() => capabilitiesOf("37.0.0"), {
      code: "UNAVAILABLE",
      message: "Cloud Hypervisor 37.0.0 is too old: VMs need version 38 or newer",
      hint: /version 51 or newer.*hypervisor = "qemu"/,
    });
    assert.throws(() => capabilitiesOf("unknown"), { code: "UNAVAILABLE" });
  });

  test("each of the others is asked only for what it knows", () => {
    const names = (version: string): string[] =>
      Object.entries(capabilitiesOf(version)).flatMap(([name, can]) => (can === true ? [name] : []));
    assert.deepEqual(names("38.0.0"), []);
    assert.deepEqual(names("v41.0"), ["landlock"]);
    assert.deepEqual(names("50.2"), ["nested", "landlock"]);
    assert.deepEqual(names("51.0"), ["nested", "imageTypes", "landlock"]);
    assert.deepEqual(names("52.0.0"), ["nested", "imageTypes", "landlock", "snapshots"]);
  });
});

describe("the VM that is asked for", () => {
  test("is what the spec says, and confined", () => {
    const config = vmConfig(SPEC, NEWEST, ["/golden/disk"]);
    assert.deepEqual(config.cpus, { boot_vcpus: 2, max_vcpus: 2, nested: false });
    assert.deepEqual(config.memory, { size: 512 * 1024 ** 2 });
    assert.equal(
      config.payload.cmdline,
      `console=${process.arch === "arm64" ? "ttyAMA0" : "ttyS0"} panic=5 root=/dev/vda`,
    );
    assert.deepEqual(config.disks, [
      {
        path: "/clones/vm-1/disk",
        readonly: false,
        serial: "root",
        image_type: "Qcow2",
        backing_files: true,
      },
      { path: "/vms/vm-1/seed.iso", readonly: true, serial: "seed", image_type: "Raw" },
    ]);
    assert.deepEqual(config.balloon, { size: 0, deflate_on_oom: true, free_page_reporting: true });
    assert.deepEqual(config.landlock_rules, [
      { path: "/golden/disk", access: "r" },
      { path: "/sys/class/net/fltap1", access: "r" },
    ]);
  });

  test("is right by the API's description, whatever the spec has and the version knows", async () => {
    const judge = await loadApiDescription();
    for (const version of ["38.0", "41.0", "50.0", "51.0", "54.0"]) {
      for (const more of [{}, { memoryPath: "/m", hasChannel: true }, { console: "virtio" as const }]) {
        const body = JSON.stringify(vmConfig({ ...SPEC, ...more }, capabilitiesOf(version)));
        assert.equal(judge({ method: "PUT", name: "vm.create", body }), undefined);
      }
    }
  });

  test("is not confined if it is a template, which writes to a folder that is named later; its clones are", () => {
    const template = vmConfig({ ...SPEC, memoryPath: "/memory", hasChannel: true }, NEWEST);
    assert.equal(template.landlock_enable, undefined);
    const own = vmConfig({ ...SPEC, hasChannel: true }, NEWEST, ["/golden/disk"]);
    const saved = JSON.stringify({ ...template, landlock_enable: false });
    const clone = cloneConfig(saved, own, "/memory") as typeof own;
    assert.equal(clone.landlock_enable, true);
    assert.deepEqual(clone.landlock_rules, own.landlock_rules);
  });

  test("has no balloon where its memory is a template's file, into which that would punch holes", () => {
    const config = vmConfig({ ...SPEC, memoryPath: "/memory", hasChannel: true }, NEWEST);
    assert.equal(config.balloon, undefined);
    assert.deepEqual(
      config.memory.zones?.map(({ file, shared }) => ({ file, shared })),
      [{ file: "/memory", shared: true }],
    );
  });

  test("of a clone is the template's, with its own disks, network and private memory", () => {
    const template = vmConfig({ ...SPEC, memoryPath: "/memory", hasChannel: true }, NEWEST);
    const saved = {
      ...template,
      disks: template.disks?.map((disk, index) => ({ ...disk, id: `_disk${index}` })),
    };
    const spec = { ...SPEC, id: "vm-2", directory: "/vms/vm-2", hasChannel: true };
    const nics = [{ tapName: "fltap2", macAddress: "52:54:00:aa:bb:dd" }];
    const own = vmConfig({ ...spec, nics }, NEWEST);
    const clone = cloneConfig(JSON.stringify(saved), own, "/memory") as typeof saved & { net: object[] };
    assert.deepEqual(
      clone.disks?.map(({ id }) => id),
      ["_disk0", "_disk1"],
    );
    assert.deepEqual(
      clone.memory.zones?.map(({ file, shared }) => ({ file, shared })),
      [{ file: "/memory", shared: false }],
    );
    assert.deepEqual(clone.net, own.net);
    assert.equal(clone.vsock?.socket, "/vms/vm-2/channel.sock");
    assert.throws(() => cloneConfig("{}", own, "/memory"), { code: "CORRUPT" });
    assert.throws(() => cloneConfig("no JSON", own, "/memory"), { code: "CORRUPT" });
  });
});

test("a process is recognised by its arguments, whatever is before them", () => {
  const vm = { id: "vm-1", directory: "/a,b c/vm-1" };
  assert.deepEqual(parseVmmProcess(["setpriv", "--", "cloud-hypervisor", ...vmmArguments(vm)]), vm);
  assert.equal(parseVmmProcess(["cloud-hypervisor", "--api-socket", "path=/run/other.sock"]), undefined);
  assert.equal(parseVmmProcess([]), undefined);
});

test("events are read however they are cut, and what is none is left out", () => {
  const events = [
    { timestamp: { secs: 0, nanos: 1 }, source: "vm", event: "booted", properties: null },
    { timestamp: { secs: 1, nanos: 1 }, source: "guest", event: "panic", properties: { event: "panic" } },
  ];
  const text = `rest of one\n\n${events.map((event) => `${JSON.stringify(event, null, 2)}\n\n`).join("")}{ "half`;
  for (const size of [1, 7, text.length]) {
    const seen: string[] = [];
    const read = eventReader(({ source, event }) => seen.push(`${source} ${event}`));
    for (let at = 0; at < text.length; at += size) read(text.slice(at, at + size));
    assert.deepEqual(seen, ["vm booted", "guest panic"]);
  }
});
