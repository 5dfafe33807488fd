/**
 * A hypervisor whose control socket is of no use: `hang` takes connections and says nothing, `garbage` answers with it, `break` ends
 * each connection. Its arguments are those of the hypervisor that it stands for.
 */
import { createServer } from "node:net";

const [fault, ...words] = process.argv.slice(2);
const socket = words.map((word) => /^(?:path=|unix:)([\w.]+\.sock)/.exec(word)?.[1]).find(Boolean);
createServer((connection) => {
  connection.on("error", () => undefined);
  if (fault === "break") connection.destroy();
  if (fault !== "garbage") return;
  connection.write("\x16\x03 this is neither QMP nor HTTP\r\n\r\n");
}).listen(socket);
process.on("SIGTERM", () => process.exit(0));
