/**
 * Probes and listens inside a network namespace on behalf of a test, which talks to it over Node's IPC channel.
 * A listener answers with the address that it saw its peer at, so a test can tell what translation did.
 */
import dgram from "node:dgram";
import net from "node:net";

const received = [];
const actions = {
  async listen({ protocol, address, port }) {
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
      socket.send(peer.address, peer.port, peer.address);
    });
    await new Promise((resolve, reject) => socket.once("error", reject).bind(port, address, resolve));
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
