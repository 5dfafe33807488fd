import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { FleetingdError } from "../../../src/errors.ts";
import {
  type Accelerator,
  type DetectOptions,
  detectAccelerator,
} from "../../../src/hypervisor/accelerator.ts";
import { createLogger } from "../../../src/log.ts";

let directory: string;
const lines: string[] = [];
const logger = createLogger({ format: "text", level: "info", write: (line) => void lines.push(line) });

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "accelerator-"));
  await writeFile(join(directory, "amd"), "processor\t: 0\nflags\t\t: fpu svm sse\n");
  await writeFile(join(directory, "intel"), "processor\t: 0\nflags\t\t: fpu sse vmx\n");
  await writeFile(join(directory, "plain"), "processor\t: 0\nflags\t\t: fpu vmxish\nvmx flags\t: vnmi\n");
  await writeFile(join(directory, "kvm"), "");
});
after(() => rm(directory, { recursive: true }));

function detect(cpu: string, options: Partial<DetectOptions> = {}): Promise<Accelerator> {
  return detectAccelerator({
    logger,
    architecture: "x64",
    cpuinfoPath: join(directory, cpu),
    devicePath: join(directory, "kvm"),
    probe: async () => undefined,
    ...options,
  });
}

describe("the accelerator is", () => {
  test("KVM when flag, device and a VM agree", async () => {
    for (const cpu of ["amd", "intel"]) assert.equal((await detect(cpu)).kind, "kvm");
  });

  test("TCG without the flag, even if the device is there", async () => {
    const { kind, reason } = await detect("plain");
    assert.equal(kind, "tcg");
    assert.match(reason, /neither vmx nor svm/);
    assert.match(lines.at(-1) ?? "", /emulated \(TCG\).*neither vmx nor svm/);
  });

  test("TCG without the device", async () => {
    const { kind, reason } = await detect("amd", { devicePath: join(directory, "absent") });
    assert.equal(kind, "tcg");
    assert.match(reason, /there is no .*absent/);
  });

  test("TCG if no VM starts, and says why in one line", async () => {
    const probe = async (): Promise<void> => {
      throw new FleetingdError(
        "COMMAND_FAILED",
        "ended by SIGABRT: qemu\nkvm_buf_set_msrs: Assertion failed",
      );
    };
    const { kind, reason } = await detect("amd", { probe });
    assert.equal(kind, "tcg");
    assert.match(reason, /a VM did not start with it \(ended by SIGABRT: qemu; kvm_buf_set_msrs/);
    assert.doesNotMatch(reason, /\n/);
  });

  test("not decided where there is no hypervisor to try with", async () => {
    const probe = async (): Promise<void> => {
      throw new FleetingdError("MISSING_PROGRAM", "the program qemu-system-x86_64 is not installed");
    };
    await assert.rejects(detect("amd", { probe }), { code: "MISSING_PROGRAM" });
  });

  test("found without processor flags on arm64", async () => {
    assert.equal((await detect("plain", { architecture: "arm64" })).kind, "kvm");
  });
});
