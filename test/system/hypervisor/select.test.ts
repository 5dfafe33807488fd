/** Which hypervisor is taken, with stand-ins for Cloud Hypervisor of several versions. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type HypervisorChoice, openHypervisor } from "../../../src/hypervisor/select.ts";
import { silentLogger } from "../../../src/log.ts";
import { putHypervisor } from "../../helpers/hypervisor-programs.ts";
import { needsNamespace } from "../../helpers/namespace.ts";

const REASON = "KVM cannot be used: the test says so.";

describe("the hypervisor that is taken", { skip: needsNamespace(), timeout: 120_000 }, () => {
  const path = process.env["PATH"];
  let bin: string;

  before(async () => {
    bin = await mkdtemp(join(tmpdir(), "select-"));
  });
  after(async () => {
    process.env["PATH"] = path;
    await rm(bin, { recursive: true });
  });

  async function open(choice: HypervisorChoice, kind: "kvm" | "tcg", version?: string) {
    if (version !== undefined) await putHypervisor(bin, "stand-in", { version });
    process.env["PATH"] = version === undefined ? path : `${bin}:${path}`;
    return openHypervisor({ choice, accelerator: { kind, reason: REASON }, logger: silentLogger });
  }

  test("by itself: Cloud Hypervisor where KVM works and it is installed and new enough", async () => {
    assert.match((await open("auto", "kvm", "54.0.0")).description, /^Cloud Hypervisor 54\.0\.0 with KVM/);
    assert.match(
      (await open("auto", "kvm", "38.1.0")).description,
      /^Cloud Hypervisor 38\.1\.0 with KVM, without Landlock/,
    );
    for (const [kind, version] of [
      ["tcg", "54.0.0"],
      ["kvm", "37.0.0"],
    ] as const)
      assert.equal((await open("auto", kind, version)).name, "qemu");
  });

  test("one that is named, or an error that says why not", async () => {
    assert.equal((await open("qemu", "kvm", "54.0.0")).name, "qemu");
    assert.equal((await open("cloud-hypervisor", "kvm", "54.0.0")).name, "cloud-hypervisor");
    await assert.rejects(open("cloud-hypervisor", "kvm", "37.0.0"), {
      code: "UNAVAILABLE",
      message: /37\.0\.0 is too old/,
    });
    await assert.rejects(open("cloud-hypervisor", "tcg", "54.0.0"), {
      code: "UNAVAILABLE",
      message: new RegExp(REASON),
    });
  });
});
