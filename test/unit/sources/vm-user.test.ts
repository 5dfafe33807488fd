import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { LocalHost } from "../../../src/sources/local/host.ts";
import { letPass, tapOwner } from "../../../src/sources/local/vm-user.ts";

const host = (startsAsUser: boolean, stateDirectory = "/nowhere"): LocalHost =>
  ({ hypervisor: { startsAsUser }, stateDirectory }) as LocalHost;
const USER = 1_900_000_001;

describe("a VM's own user", () => {
  test("opens the TAP where the process has it from the beginning", () => {
    assert.deepEqual(tapOwner(host(true), USER), { uid: USER });
    assert.equal(tapOwner(host(true), undefined), undefined);
    assert.equal(tapOwner(host(false), USER), undefined);
  });

  test("gets through the daemon's folders, however they are written, and only where it has to", async () => {
    const root = await mkdtemp(join(tmpdir(), "vm-user-"));
    try {
      const golden = join(root, "disks", "golden");
      for (const folder of ["disks", "disks/golden", "vms"]) await mkdir(join(root, folder), { mode: 0o700 });
      const mode = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;
      await letPass(host(false, root), `${root}/disks/`, [golden]);
      assert.equal(await mode(golden), 0o700);
      await letPass(host(true, join(root, "vms")), `${root}/disks/`, [golden, join(root, "vms")]);
      for (const path of [golden, join(root, "disks"), join(root, "vms")])
        assert.equal(await mode(path), 0o701);
      assert.equal(await mode(root), 0o700);
    } finally {
      await rm(root, { recursive: true });
    }
  });
});
