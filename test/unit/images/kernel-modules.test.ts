import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { FleetingdError } from "../../../src/errors.ts";
import { moduleName, moduleOf, modulePaths, parseModuleIndex } from "../../../src/images/kernel-modules.ts";

const DEP = `kernel/drivers/virtio/virtio_ring.ko.xz:
kernel/drivers/virtio/virtio.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/net/virtio-net.ko.xz: kernel/net/failover.ko.xz kernel/drivers/virtio/virtio.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz
kernel/net/failover.ko.xz:
`;
const index = parseModuleIndex(DEP, "kernel/fs/ext4/ext4.ko\nkernel/crypto/crc32c_generic.ko\n");

describe("modulePaths", () => {
  test("what a module needs comes before it, and nothing twice", () => {
    assert.deepEqual(modulePaths(index, ["virtio", "virtio_net"]), [
      "kernel/drivers/virtio/virtio_ring.ko.xz",
      "kernel/drivers/virtio/virtio.ko.xz",
      "kernel/net/failover.ko.xz",
      "kernel/drivers/net/virtio-net.ko.xz",
    ]);
  });

  test("what is built in needs no file", () => {
    assert.deepEqual(modulePaths(index, ["ext4", "crc32c_generic"]), []);
  });

  test("a module that the kernel lacks is an error that names it", () => {
    assert.throws(
      () => modulePaths(index, ["virtio_blk"]),
      (error) =>
        error instanceof FleetingdError && error.code === "NOT_FOUND" && /virtio_blk/.test(error.message),
    );
  });
});

test("a module's name has no path, suffix or dash", () => {
  assert.equal(moduleName("kernel/arch/x86/crypto/crc32c-intel.ko.zst"), "crc32c_intel");
  assert.equal(moduleName("/lib/modules/6.1/kernel/fs/ext4.ko"), "ext4");
});

test("a compressed module is unpacked", async () => {
  const module = await moduleOf("kernel/x-y.ko.gz", gzipSync("object"));
  assert.equal(module.name, "x_y");
  assert.equal(Buffer.from(module.data).toString(), "object");
});
