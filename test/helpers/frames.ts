/** Ethernet frames made by hand, for what no socket would send. */
import { isIPv6 } from "node:net";
import { parseIpv6 } from "../../src/network/ipv6.ts";
import { GUEST_DEVICE, type Place } from "./netns.ts";

export type Frame = Buffer;

/** For Perl: `interface-index frame…`. */
const SEND = `
  use Socket; use constant { AF_PACKET => 17, SOCK_RAW => 3 };
  socket(my $socket, AF_PACKET, SOCK_RAW, 0) or die $!;
  my $index = $ARGV[0];
  my $to = pack("SnlSCCa8", AF_PACKET, 0, $index, 0, 0, 6, "");
  send($socket, pack("H*", $_), 0, $to) or die $! for @ARGV[1 .. $#ARGV];
`;

/** Sends frames from a guest as they are. */
export async function sendFrames(guest: Place, frames: readonly Frame[]): Promise<void> {
  const [{ ifindex }] = JSON.parse(await guest.ip("-j", "link", "show", "dev", GUEST_DEVICE));
  const words = frames.map((frame) => frame.toString("hex"));
  await guest.run("perl", "-e", SEND, String(ifindex), ...words);
}

const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_IPV6 = 0x86dd;
const ETHERTYPE_VLAN = 0x8100;
const IPV4_HEADER_BYTES = 20;
const MORE_FRAGMENTS = 0x2000;
const ICMP = 1;
const UDP = 17;
/** Where `fragments` cuts: after the UDP header and a little more; fragments begin at multiples of eight bytes. */
const CUT_BYTES = 16;

export function ethernet(from: string, to: string, payload: Buffer, type = ETHERTYPE_IPV4): Frame {
  return Buffer.concat([macBytes(to), macBytes(from), uint16(type), payload]);
}

/** The same frame with a tag of this VLAN. */
export function vlan(id: number, frame: Frame): Frame {
  return Buffer.concat([frame.subarray(0, 12), uint16(ETHERTYPE_VLAN), uint16(id), frame.subarray(12)]);
}

export function ipv4(
  from: string,
  to: string,
  payload: Buffer,
  {
    fragment = 0,
    protocol = UDP,
    options = "",
  }: { fragment?: number; protocol?: number; options?: string } = {},
): Buffer {
  const more = Buffer.from(options, "hex");
  const header = Buffer.concat([
    Buffer.from([0x45 + more.length / 4, 0]),
    uint16(IPV4_HEADER_BYTES + more.length + payload.length),
    uint16(0x4711),
    uint16(fragment),
    Buffer.from([64, protocol, 0, 0]),
    addressBytes(from),
    addressBytes(to),
    more,
  ]);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, payload]);
}

/** The option of a packet that is to go by way of these addresses (RFC 791), for `ipv4`. */
export function sourceRoute(kind: "loose" | "strict", ...via: readonly string[]): string {
  const length = 3 + via.length * 4;
  const bytes = [kind === "loose" ? 131 : 137, length, 4, ...via.flatMap((one) => [...addressBytes(one)])];
  return Buffer.from([...bytes, 0]).toString("hex");
}

/** Extension headers of IPv6 by name, of eight bytes each; a routing header has nothing left to route. */
const EXTENSIONS = {
  "hop-by-hop": { kind: 0, rest: "00010400000000" },
  routing: { kind: 43, rest: "00000000000000" },
  // The whole packet is its only fragment.
  fragment: { kind: 44, rest: "00000000004711" },
  destination: { kind: 60, rest: "00010400000000" },
} as const;

export function ipv6(
  from: string,
  to: string,
  payload: Buffer,
  extensions: readonly (keyof typeof EXTENSIONS)[] = [],
): Buffer {
  const kinds = [...extensions.map((name) => EXTENSIONS[name].kind), UDP];
  const headers = extensions.map((name, index) =>
    Buffer.concat([Buffer.from([kinds[index + 1] ?? UDP]), Buffer.from(EXTENSIONS[name].rest, "hex")]),
  );
  const body = Buffer.concat([...headers, payload]);
  const start = [Buffer.from([0x60, 0, 0, 0]), uint16(body.length), Buffer.from([kinds[0] ?? UDP, 64])];
  return Buffer.concat([...start, addressBytes(from), addressBytes(to), body]);
}

/** A UDP datagram in two fragments. */
export function fragments6(from: string, to: string, datagram: Buffer): Buffer[] {
  const piece = (part: Buffer, offset: number, more: boolean): Buffer => {
    const header = Buffer.concat([
      Buffer.from([UDP, 0]),
      uint16(offset | Number(more)),
      Buffer.alloc(4, 0x47),
    ]);
    const body = Buffer.concat([header, part]);
    const start = [Buffer.from([0x60, 0, 0, 0]), uint16(body.length), Buffer.from([44, 64])];
    return Buffer.concat([...start, addressBytes(from), addressBytes(to), body]);
  };
  return [
    piece(datagram.subarray(0, CUT_BYTES), 0, true),
    piece(datagram.subarray(CUT_BYTES), CUT_BYTES, false),
  ];
}

export function udp(from: string, to: string, fromPort: number, toPort: number, text: string): Buffer {
  const data = Buffer.from(text);
  const length = uint16(8 + data.length);
  const datagram = Buffer.concat([uint16(fromPort), uint16(toPort), length, uint16(0), data]);
  // The same sum for IPv6, whose fields are wider.
  const pseudo = Buffer.concat([addressBytes(from), addressBytes(to), Buffer.from([0, UDP]), length]);
  datagram.writeUInt16BE(checksum(Buffer.concat([pseudo, datagram])) || 0xffff, 6);
  return datagram;
}

/** An ICMP error that says of `packet` that it was too large for a link with this MTU. */
export function tooLarge(from: string, to: string, packet: Buffer, mtu: number): Buffer {
  const quoted = packet.subarray(0, IPV4_HEADER_BYTES + 8);
  const message = Buffer.concat([Buffer.from([3, 4, 0, 0, 0, 0]), uint16(mtu), quoted]);
  message.writeUInt16BE(checksum(message), 2);
  return ipv4(from, to, message, { protocol: ICMP });
}

/** An ICMP message that says of `packet` that this router is a better one. */
export function redirect(from: string, to: string, packet: Buffer, router: string): Buffer {
  const quoted = packet.subarray(0, IPV4_HEADER_BYTES + 8);
  const message = Buffer.concat([Buffer.from([5, 1, 0, 0]), addressBytes(router), quoted]);
  message.writeUInt16BE(checksum(message), 2);
  return ipv4(from, to, message, { protocol: ICMP });
}

/** An IPv4 packet cut in two. */
export function fragments(packet: Buffer): Buffer[] {
  const [from, to] = [[...packet.subarray(12, 16)].join("."), [...packet.subarray(16, 20)].join(".")];
  const payload = packet.subarray(IPV4_HEADER_BYTES);
  return [
    ipv4(from, to, payload.subarray(0, CUT_BYTES), { fragment: MORE_FRAGMENTS }),
    ipv4(from, to, payload.subarray(CUT_BYTES), { fragment: CUT_BYTES / 8 }),
  ];
}

/** The internet checksum (RFC 1071). */
function checksum(data: Buffer): number {
  const even = data.length % 2 === 0 ? data : Buffer.concat([data, Buffer.from([0])]);
  let sum = 0;
  for (let at = 0; at < even.length; at += 2) sum += even.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(":", ""), "hex");
}

function addressBytes(address: string): Buffer {
  if (isIPv6(address)) return Buffer.from(parseIpv6(address).toString(16).padStart(32, "0"), "hex");
  return Buffer.from(address.split(".").map(Number));
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
