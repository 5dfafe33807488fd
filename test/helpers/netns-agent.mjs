/**
 * Probes and listens inside a network namespace on behalf of a test, which talks to it over Node's IPC channel.
 * A listener answers with the address that it saw its peer at, so a test can tell what translation did.
 */
import dgram from "node:dgram";
import net from "node:net";

const received = [];
const connections = new Map();
const CHUNK = Buffer.alloc(64 * 1024);
let sunkBytes = 0;

/** What a stream listener does with who comes. */
const streams = {
  echo: (socket) => socket.pipe(socket),
  sink: (socket) => socket.on("data", (data) => (sunkBytes += data.length)),
  source: (socket) => {
    const write = () => {
      while (socket.writable && socket.write(CHUNK));
    };
    socket.on("drain", write);
    write();
  },
};

function connect(address, port, timeoutMs) {
  return new Promise((resolve) => {
    const socket = net.connect({ host: address, port });
    const fail = () => {
      socket.destroy();
      resolve(undefined);
    };
    const timer = setTimeout(fail, timeoutMs);
    socket.on("error", fail);
    socket.on("connect", () => {
      clearTimeout(timer);
      resolve(socket);
    });
  });
}

const actions = {
  async stream({ kind, address, port }) {
    const server = net.createServer((socket) => {
      socket.on("error", (error) => received.push(`${kind} ${port} broke: ${error.code}`));
      streams[kind](socket);
    });
    await new Promise((resolve, reject) => server.once("error", reject).listen(port, address, resolve));
    return true;
  },
  /** Opens connections, which stay until `hangUp`; says how many were made. */
  async connect({ address, port, count, timeoutMs }) {
    const made = await Promise.all(Array.from({ length: count }, () => connect(address, port, timeoutMs)));
    const open = made.filter((socket) => socket !== undefined);
    connections.set(`${address}:${port}`, [...(connections.get(`${address}:${port}`) ?? []), ...open]);
    return open.length;
  },
  /** Says something through a connection that `connect` made to an echo; the echo, or null if none comes. */
  say: ({ address, port, text, timeoutMs }) =>
    new Promise((resolve) => {
      const [socket] = connections.get(`${address}:${port}`) ?? [];
      if (socket === undefined) return resolve(null);
      const finish = (answer) => {
        clearTimeout(timer);
        socket.off("data", onData);
        resolve(answer);
      };
      const timer = setTimeout(() => finish(null), timeoutMs);
      const onData = (data) => finish(String(data));
      socket.on("data", onData);
      socket.write(text);
    }),
  async hangUp() {
    for (const socket of [...connections.values()].flat()) socket.destroy();
    connections.clear();
    return true;
  },
  /** How many bytes come from a source in this time, or a little more. */
  async download({ address, port, durationMs, timeoutMs }) {
    const startedAt = performance.now();
    const socket = await connect(address, port, timeoutMs);
    if (socket === undefined) throw new Error("there is no connection");
    let bytes = 0;
    socket.on("data", (data) => (bytes += data.length));
    await new Promise((resolve) => setTimeout(resolve, durationMs));
    socket.destroy();
    return { bytes, durationMs: performance.now() - startedAt };
  },
  /** Sends to a sink for this time, or a little more, which is the answer; the sink knows how much came. */
  async upload({ address, port, durationMs, timeoutMs }) {
    const startedAt = performance.now();
    const socket = await connect(address, port, timeoutMs);
    if (socket === undefined) throw new Error("there is no connection");
    streams.source(socket);
    await new Promise((resolve) => setTimeout(resolve, durationMs));
    // What is on its way is of no interest any more.
    socket.resetAndDestroy();
    return performance.now() - startedAt;
  },
  sunk: async () => sunkBytes,
  async listen({ protocol, address, port, silent, group }) {
    if (protocol === "tcp") {
      const server = net.createServer((socket) => {
        received.push(`tcp ${port} from ${socket.remoteAddress}`);
        socket.on("error", (error) => received.push(`tcp ${port} broke: ${error.code}`));
        socket.end(socket.remoteAddress);
      });
      await new Promise((resolve, reject) => server.once("error", reject).listen(port, address, resolve));
      return true;
    }
    const socket = dgram.createSocket(net.isIPv6(address) ? "udp6" : "udp4");
    socket.on("message", (message, peer) => {
      received.push(`udp ${port} from ${peer.address}: ${message}`);
      if (!silent) socket.send(peer.address, peer.port, peer.address);
    });
    await new Promise((resolve, reject) => socket.once("error", reject).bind(port, address, resolve));
    if (group) socket.addMembership(group.address, group.interface);
    return true;
  },
  received: async () => received,
  tcp: ({ address, port, from, timeoutMs }) =>
    new Promise((resolve) => {
      const socket = net.connect({ host: address, port, ...(from ? { localAddress: from } : {}) });
      let answer = "";
      const finish = (result) => {
        socket.destroy();
        resolve(result);
      };
      socket.setTimeout(timeoutMs, () => finish(null));
      socket.on("data", (data) => {
        answer += data;
      });
      socket.on("end", () => finish(answer));
      socket.on("error", () => finish(null));
    }),
  udp: ({ address, port, from, payload, timeoutMs }) =>
    new Promise((resolve) => {
      const socket = dgram.createSocket(net.isIPv6(address) ? "udp6" : "udp4");
      const finish = (result) => {
        clearTimeout(timer);
        socket.close();
        resolve(result);
      };
      const timer = setTimeout(() => finish(null), timeoutMs);
      socket.on("message", (message) => finish(String(message)));
      socket.on("error", () => finish(null));
      const send = () => socket.send(payload, port, address, (error) => error && finish(null));
      from ? socket.bind({ address: from }, send) : send();
    }),
};

process.on("message", async ({ id, action, ...options }) => {
  try {
    process.send({ id, result: await actions[action](options) });
  } catch (error) {
    process.send({ id, error: String(error) });
  }
});
process.on("disconnect", () => process.exit(0));
process.send({ ready: true });
