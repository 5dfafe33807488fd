/** Imported first: the host takes the first line on standard output for the handshake, whoever wrote it. */
import { Console } from "node:console";

globalThis.console = new Console(process.stderr, process.stderr);
