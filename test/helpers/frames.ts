/** Ethernet frames made by hand, for what no socket would send. */
export type Frame = Buffer;

const ETHERTYPE_IPV4 = 0x0800;
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
  { fragment = 0, protocol = UDP }: { fragment?: number; protocol?: number } = {},
): Buffer {
  const header = Buffer.concat([
    Buffer.from([0x45, 0]),
    uint16(IPV4_HEADER_BYTES + payload.length),
    uint16(0x4711),
    uint16(fragment),
    Buffer.from([64, protocol, 0, 0]),
    addressBytes(from),
    addressBytes(to),
  ]);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, payload]);
}

export function udp(from: string, to: string, fromPort: number, toPort: number, text: string): Buffer {
  const data = Buffer.from(text);
  const length = uint16(8 + data.length);
  const datagram = Buffer.concat([uint16(fromPort), uint16(toPort), length, uint16(0), data]);
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
  return Buffer.from(address.split(".").map(Number));
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
