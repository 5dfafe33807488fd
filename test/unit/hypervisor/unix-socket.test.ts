import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connectUnixSocket, MAX_SOCKET_PATH_BYTES } from "../../../src/host/unix-socket.ts";

test("a socket is reached however long its path is", async () => {
  const root = await mkdtemp(join(tmpdir(), "socket-"));
  const directory = join(root, "ü".repeat(40), "b".repeat(60));
  await mkdir(directory, { recursive: true });
  const path = join(directory, "s");
  assert.ok(Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES);
  // A server binds it by a short name, as a program does whose working directory it is.
  const server = createServer((socket) => socket.end("hello"));
  const here = process.cwd();
  process.chdir(directory);
  try {
    await new Promise<void>((resolve) => server.listen("s", resolve));
  } finally {
    process.chdir(here);
  }
  try {
    const socket = await connectUnixSocket(path, 2_000);
    const [text] = await socket.toArray();
    assert.equal(String(text), "hello");
    await assert.rejects(connectUnixSocket(join(directory, "t"), 2_000), { code: "ENOENT" });
  } finally {
    server.close();
    await rm(root, { recursive: true });
  }
});
