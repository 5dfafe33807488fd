/** Counts what a server on a unix socket is asked, on the way there. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** How many questions begin in the bytes that a client sends next; of one connection. */
export type Counter = (bytes: Buffer) => number;

export interface Relay {
  readonly count: number;
  stop(): Promise<void>;
}

/** Whoever connects to `path` is connected to `target`. */
export async function startRelay(path: string, target: string, createCounter: () => Counter): Promise<Relay> {
  let count = 0;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const counter = createCounter();
    const onward = connect(target);
    for (const [socket, other] of [
      [client, onward],
      [onward, client],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
    client.on("data", (bytes: Buffer) => {
      count += counter(bytes);
    });
  });
  server.listen(path);
  await once(server, "listening");
  return {
    get count() {
      return count;
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** Requests of HTTP, each of which its client begins with a write of its own. */
export function countHttp(): Counter {
  return (bytes) => (/^[A-Z]+ \S+ HTTP\/1\.1\r\n/.test(bytes.toString("latin1", 0, 4_096)) ? 1 : 0);
}

/** The number of libvirt's own program, and what a message may be: a call, or one that brings file descriptors. */
const REMOTE = 0x20008086;
const CALLS = new Set([0, 4]);
const HEADER_BYTES = 20;

/** Calls of libvirt's protocol: messages that begin with their length, program, version, procedure and type. */
export function countLibvirt(): Counter {
  let rest: Buffer = Buffer.alloc(0);
  let skip = 0;
  return (bytes) => {
    let calls = 0;
    rest = Buffer.concat([rest, bytes]);
    for (;;) {
      const skipped = Math.min(skip, rest.length);
      rest = rest.subarray(skipped);
      skip -= skipped;
      if (rest.length < HEADER_BYTES) return calls;
      if (rest.readUInt32BE(4) === REMOTE && CALLS.has(rest.readUInt32BE(16))) calls++;
      skip = rest.readUInt32BE(0);
    }
  };
}
