/** How the host is to connect to an instance: what the daemon knows, below what the runner's configuration says. */
import { isIPv6 } from "node:net";
import type { ConnectInfoResponse, ConnectorConfig } from "../gen/fleeting.ts";
import type { ConnectInfoReply } from "../gen/fleetingd.ts";

const NANOSECONDS_PER_SECOND = 1_000_000_000n;
const DEFAULT_KEEPALIVE = 10n * NANOSECONDS_PER_SECOND;
// The host dials again until this is over; an instance that runs has already been logged in to.
const DEFAULT_TIMEOUT = 60n * NANOSECONDS_PER_SECOND;
const SSH_PORT = 22n;

/**
 * Answers `ConnectInfo`. The host uses the answer as it is and overlays nothing, so what `[connector_config]` sets is
 * merged here: it wins, except that the instance's own key is replaced only with `use_static_credentials`.
 */
export function connectInfo(
  info: ConnectInfoReply,
  settings: ConnectorConfig | undefined,
): ConnectInfoResponse {
  const own = settings?.useStaticCredentials ?? false;
  const protocolPort = settings?.protocolPort || BigInt(info.port) || SSH_PORT;
  return {
    connector: {
      os: settings?.os || info.os,
      arch: settings?.arch || info.arch,
      protocol: settings?.protocol || info.protocol,
      username: settings?.username || info.username,
      password: own ? (settings?.password ?? "") : info.password,
      key: own ? (settings?.key ?? Buffer.alloc(0)) : info.key,
      useStaticCredentials: own,
      keepalive: settings?.keepalive || DEFAULT_KEEPALIVE,
      timeout: settings?.timeout || DEFAULT_TIMEOUT,
      protocolPort,
    },
    // Both, since `use_external_addr` may be set.
    ExternalAddr: withPort(info.externalAddress || info.internalAddress, protocolPort),
    InternalAddr: withPort(info.internalAddress || info.externalAddress, protocolPort),
    expires: info.expires,
  };
}

/** Hosts of early 2025 and before do not know `protocol_port`, but take a port from the address, as newer ones do. */
function withPort(address: string, port: bigint): string {
  if (port === SSH_PORT || address === "") return address;
  return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
}
