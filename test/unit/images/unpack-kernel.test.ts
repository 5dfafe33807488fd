import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { removeTree } from "../../../src/host/files.ts";
import { run } from "../../../src/host/run.ts";
import { unpackKernel } from "../../../src/images/unpack-kernel.ts";

const PVH_ENTRY = 18;
const XEN_VERSION = 5;

describe("the kernel of a bzImage", () => {
  let directory = "";
  const inDirectory = (name: string): string => join(directory, name);
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "fleetingd-kernel-"));
  });
  after(() => removeTree(directory));

  const compress: Record<string, readonly [string, ...string[]]> = {
    gzip: ["gzip", "-k"],
    xz: ["xz", "-k", "--check=crc32"],
    zstd: ["zstd", "-q", "--ultra", "-22"],
    // The format that Linux reads is an older one than the program's own.
    lz4: ["lz4", "-l", "-q", "-m"],
  };

  for (const [name, command] of Object.entries(compress)) {
    test(`is unpacked: ${name}`, async () => {
      const vmlinux = elf(PVH_ENTRY);
      const kernel = inDirectory(name);
      await writeFile(kernel, bzImage(await packed(vmlinux, command), name !== "gzip"));
      assert.equal(await unpackKernel(kernel, inDirectory(`${name}.vmlinux`)), undefined);
      assert.deepEqual(await readFile(inDirectory(`${name}.vmlinux`)), vmlinux);
      assert.equal((await stat(inDirectory(`${name}.vmlinux`))).mode & 0o777, 0o400);
    });
  }

  test("stays as it is where it can't be unpacked or entered, and nothing is left then", async () => {
    const gzip = compress["gzip"] ?? assert.fail();
    const whole = bzImage(await packed(elf(PVH_ENTRY), gzip), false);
    const kernels: Record<string, [Buffer, RegExp]> = {
      unknown: [bzImage(Buffer.from("in no known format"), true), /no bzImage/],
      arm: [Buffer.alloc(4096, "MZ"), /no bzImage/],
      short: [Buffer.from("MZ"), /no bzImage/],
      cutOff: [whole.subarray(0, -80), /gzip/],
      noEntry: [bzImage(await packed(elf(XEN_VERSION), gzip), false), /CONFIG_PVH/],
      noElf: [bzImage(await packed(Buffer.alloc(4096, "text"), gzip), false), /CONFIG_PVH/],
    };
    const target = join(directory, "target");
    await mkdir(target);
    for (const [name, [content, reason]] of Object.entries(kernels)) {
      await writeFile(inDirectory(name), content);
      assert.match((await unpackKernel(inDirectory(name), join(target, "vmlinux"))) ?? "", reason, name);
    }
    assert.deepEqual(await readdir(target), []);
  });

  async function packed(
    content: Buffer,
    [program, ...options]: readonly [string, ...string[]],
  ): Promise<Buffer> {
    const scratch = await mkdtemp(inDirectory("packed-"));
    await writeFile(join(scratch, "file"), content);
    await run(program, [...options, join(scratch, "file")]);
    const name = (await readdir(scratch)).find((found) => found !== "file") ?? assert.fail("not compressed");
    return readFile(join(scratch, name));
  }
});

/** Boot sector, one sector of setup, and a payload a little further on. */
function bzImage(payload: Buffer, hasTrailer: boolean): Buffer {
  const [offset, begin] = [100, 2 * 512];
  const trailer = hasTrailer ? Buffer.alloc(4, 0xaa) : Buffer.alloc(0);
  const image = Buffer.concat([Buffer.alloc(begin + offset), payload, trailer, Buffer.alloc(64, "end")]);
  image.writeUInt8(1, 0x1f1);
  image.write("HdrS", 0x202, "latin1");
  image.writeUInt16LE(0x20f, 0x206);
  image.writeUInt32LE(offset, 0x248);
  image.writeUInt32LE(payload.length + trailer.length, 0x24c);
  return image;
}

/** An ELF file of 64 bits with a segment of notes, of which the last has this type. */
function elf(type: number): Buffer {
  const [tableAt, notesAt] = [64, 1024];
  const note = (number: number): Buffer => {
    const bytes = Buffer.alloc(24);
    for (const [index, value] of [4, 8, number].entries()) bytes.writeUInt32LE(value, index * 4);
    bytes.write("Xen\0", 12, "latin1");
    return bytes;
  };
  const notes = Buffer.concat([note(6), note(type)]);
  const file = Buffer.alloc(16 * 1024, "kernel");
  file.write("7f454c46020101", 0, "hex");
  file.writeBigUInt64LE(BigInt(tableAt), 32);
  file.writeUInt16LE(2, 56);
  for (const [index, [kind, at, length]] of [
    [1, 0, 512],
    [4, notesAt, notes.length],
  ].entries()) {
    const entry = tableAt + index * 56;
    file.writeUInt32LE(kind ?? 0, entry);
    file.writeBigUInt64LE(BigInt(at ?? 0), entry + 8);
    file.writeBigUInt64LE(BigInt(length ?? 0), entry + 32);
  }
  notes.copy(file, notesAt);
  return file;
}
