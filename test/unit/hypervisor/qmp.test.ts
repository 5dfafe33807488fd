import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { withTimeout } from "../../../src/host/wait.ts";
import { connectQmp, type QmpConnection } from "../../../src/hypervisor/qemu/qmp.ts";
import { parseQmpLine, type QmpEvent } from "../../../src/hypervisor/qemu/qmp-message.ts";

const GREETING =
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}\r\n';

/** What a stand-in for QEMU does with each command it reads. */
type Behaviour = (command: { execute: string; id: number }, socket: Socket) => void;

let directory: string;
let server: Server | undefined;
let connection: QmpConnection | undefined;
const sockets = new Set<Socket>();

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "qmp-"));
});
afterEach(async () => {
  connection?.close();
  connection = undefined;
  for (const socket of sockets) socket.destroy();
  await new Promise<void>((resolve) => (server === undefined ? resolve() : server.close(() => resolve())));
  server = undefined;
});
after(() => rm(directory, { recursive: true }));

const answer: Behaviour = ({ id }, socket) => void socket.write(`{"return": {}, "id": ${id}}\r\n`);

/** Listens like QEMU: greets, agrees to qmp_capabilities, and does the rest as it is told. */
async function listen(behaviour: Behaviour, greeting = GREETING): Promise<string> {
  const path = join(directory, "qmp.sock");
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.write(greeting);
    socket.on("data", (data) => {
      for (const line of data.toString().trim().split("\n")) {
        const command = JSON.parse(line);
        (command.execute === "qmp_capabilities" ? answer : behaviour)(command, socket);
      }
    });
  });
  const listening = server;
  await new Promise<void>((resolve) => listening.listen(path, resolve));
  return path;
}

async function connect(path: string, onEvent: (event: QmpEvent) => void = () => undefined): Promise<void> {
  connection = await connectQmp(path, { timeoutMs: 2_000, onEvent });
}

function execute(command: string, timeoutMs = 2_000): Promise<unknown> {
  if (connection === undefined) throw new Error("not connected");
  return connection.execute(command, { timeoutMs });
}

describe("a monitor connection", () => {
  test("answers each command, also when the answers come in another order and in pieces", async () => {
    const held: number[] = [];
    const path = await listen(({ id }, socket) => {
      held.push(id);
      if (held.length < 2) return;
      const [first, second] = held;
      const text = `{"return": "second", "id": ${second}}\r\n{"return": "fürst", "id": ${first}}\r\n`;
      const bytes = Buffer.from(text);
      // In the middle of the two bytes of an umlaut.
      const cut = bytes.indexOf(0xc3) + 1;
      socket.write(bytes.subarray(0, cut));
      setTimeout(() => socket.write(bytes.subarray(cut)), 20);
    });
    await connect(path);
    assert.deepEqual(await Promise.all([execute("a"), execute("b")]), ["fürst", "second"]);
  });

  test("hands on events between the answers", async () => {
    const events: QmpEvent[] = [];
    const path = await listen((command, socket) => {
      socket.write(
        '{"event": "RESET", "data": {"guest": true}, "timestamp": {"seconds": 1, "microseconds": 2}}\r\n',
      );
      answer(command, socket);
    });
    await connect(path, (event) => events.push(event));
    await execute("system_reset");
    assert.deepEqual(events, [{ name: "RESET", data: { guest: true } }]);
  });

  test("passes on what QEMU refuses, and goes on", async () => {
    const path = await listen((command, socket) => {
      if (command.execute === "good") return answer(command, socket);
      socket.write(
        `{"id": ${command.id}, "error": {"class": "CommandNotFound", "desc": "no such thing"}}\r\n`,
      );
    });
    await connect(path);
    await assert.rejects(execute("bad"), {
      code: "HYPERVISOR_FAILED",
      message: "QEMU refused bad: no such thing",
    });
    await execute("good");
  });

  test("a command that hangs ends at its deadline; its late answer is dropped", async () => {
    const path = await listen((command, socket) => {
      if (command.execute === "slow") setTimeout(() => answer(command, socket), 100);
      else setTimeout(() => socket.write(`{"return": "mine", "id": ${command.id}}\r\n`), 100);
    });
    await connect(path);
    await assert.rejects(execute("slow", 30), { code: "TIMEOUT", message: /QEMU's answer to slow/ });
    assert.equal(await execute("quick"), "mine");
  });

  test("garbage ends the connection and every waiting command", async () => {
    const path = await listen((_, socket) => void socket.write("Segmentation fault\r\n"));
    await connect(path);
    const expected = {
      code: "HYPERVISOR_FAILED",
      message: "QEMU sent something that is not QMP: Segmentation fault",
    };
    await assert.rejects(execute("query-status"), expected);
    await withTimeout(connection?.closed ?? Promise.reject(), 2_000, "the end of the connection");
    await assert.rejects(execute("query-status"), expected);
  });

  test("a line without an end is not collected for ever", async () => {
    const path = await listen((_, socket) => void socket.write("x".repeat(3 * 1024 * 1024)));
    await connect(path);
    await assert.rejects(execute("query-status"), {
      code: "HYPERVISOR_FAILED",
      message: /more than 1048576/,
    });
  });

  test("the other side's end fails what waits, at once", async () => {
    const path = await listen((_, socket) => void socket.destroy());
    await connect(path);
    await assert.rejects(execute("query-status", 60_000), { code: "UNAVAILABLE" });
    await withTimeout(connection?.closed ?? Promise.reject(), 2_000, "the end of the connection");
  });

  test("a half line before the end is no answer", async () => {
    const path = await listen(({ id }, socket) => void socket.end(`{"return": {}, "id": ${id}`));
    await connect(path);
    await assert.rejects(execute("query-status", 60_000), { code: "UNAVAILABLE" });
  });
});

describe("connecting to a monitor", () => {
  test("a server that never greets", async () => {
    const path = await listen(answer, "");
    await assert.rejects(connectQmp(path, { timeoutMs: 50, onEvent: () => undefined }), {
      code: "TIMEOUT",
      message: /QEMU's greeting/,
    });
  });

  test("a server that greets with something else", async () => {
    const path = await listen(answer, "HTTP/1.1 400 Bad Request\r\n");
    await assert.rejects(connect(path), { code: "HYPERVISOR_FAILED", message: /not QMP: HTTP\/1.1 400/ });
  });

  test("no socket is told by the system's own code", async () => {
    await assert.rejects(connect(join(directory, "absent.sock")), { code: "ENOENT" });
  });
});

test("lines that are no messages", () => {
  for (const line of [
    "",
    "null",
    "[]",
    "{}",
    '{"return": {}}',
    '{"id": 3}',
    '{"error": "text", "id": 1}',
    "{",
  ]) {
    assert.throws(() => parseQmpLine(line), { code: "HYPERVISOR_FAILED" }, line);
  }
  assert.throws(() => parseQmpLine("y".repeat(5_000)), { message: /y{200}… \(5000 characters\)$/ });
  assert.deepEqual(parseQmpLine('{"return": null, "id": 3}'), { kind: "result", id: 3, value: null });
});
