/** The go-plugin handshake as text: what the host says in the environment, and what we answer on standard output. */

const COOKIE_KEY = "FLEETING_INSTANCE_GROUP_PLUGIN";
const COOKIE_VALUE = "4c6410b1-cb78-4962-8c76-ab936d0ea908";
const CORE_PROTOCOL_VERSION = 1;
const APP_PROTOCOL_VERSION = 0;

/** What the host asks for; a key that it does not set is undefined. */
export interface HostRequest {
  /** Where our socket shall be. */
  socketDirectory: string | undefined;
  /** Name or number of the group that may use our socket. */
  socketGroup: string | undefined;
  /** PEM: the host wants mutual TLS, and proves itself with this certificate. */
  clientCertificate: string | undefined;
}

/** The host's request, or undefined if no fleeting host has started this process. */
export function readHostRequest(env: NodeJS.ProcessEnv): HostRequest | undefined {
  if (env[COOKIE_KEY] !== COOKIE_VALUE) return undefined;
  return {
    socketDirectory: env["PLUGIN_UNIX_SOCKET_DIR"] || undefined,
    socketGroup: env["PLUGIN_UNIX_SOCKET_GROUP"] || undefined,
    clientCertificate: env["PLUGIN_CLIENT_CERT"] || undefined,
  };
}

/**
 * The one line that the host waits for.
 * @param certificate DER, with mutual TLS only.
 */
export function handshakeLine(socketPath: string, certificate?: Uint8Array): string {
  // The host decodes base64 without padding and refuses it with.
  const encoded =
    certificate === undefined ? "" : Buffer.from(certificate).toString("base64").replace(/=+$/, "");
  return `${CORE_PROTOCOL_VERSION}|${APP_PROTOCOL_VERSION}|unix|${socketPath}|grpc|${encoded}\n`;
}
