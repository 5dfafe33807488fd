/** The kinds of values that keys have. Each message says what was wrong and what to do; the key is said by others. */
import { isIP, isIPv4 } from "node:net";
import { normalize } from "node:path";
import * as z from "zod";
import { FleetingdError, messageOf } from "../errors.ts";
import type { UserRange } from "../hypervisor/users.ts";
import { checkInterfaceName } from "../network/interface-name.ts";
import type { Ipv6Prefix } from "../network/ipv6.ts";
import {
  type AllowedDestination,
  type Ports,
  PRIVATE,
  parseAllowed,
  parsePorts,
  parsePrefix,
} from "../network/policy.ts";
import { parseVmSubnet, parseVmSubnet6, type VmSubnet } from "../network/slots.ts";
import { formatDuration, parseDuration } from "./duration.ts";
import { describeValue } from "./explain.ts";
import { type InstanceSize, parseInstanceSize } from "./instance-size.ts";

const NAME = /^[a-z0-9-]{1,32}$/;
const PACKAGE = /^[a-z0-9][a-z0-9.+-]*(:[a-z0-9-]+)?([=/][A-Za-z0-9.+:~_-]+)?$/;

/** A string that `check` accepts and perhaps rewrites; it throws a sentence otherwise. */
function checkedString<T>(check: (text: string) => T): z.ZodType<T, unknown> {
  return z.string().transform((text, context) => {
    try {
      return check(text);
    } catch (error) {
      context.addIssue({ code: "custom", message: sentence(error) });
      return z.NEVER;
    }
  });
}

function sentence(error: unknown): string {
  const hint = error instanceof FleetingdError ? error.hint : undefined;
  return hint === undefined ? messageOf(error) : `${messageOf(error)}. ${hint}`;
}

export function matching(pattern: RegExp, wanted: string): z.ZodType<string, unknown> {
  return checkedString((text) => {
    if (pattern.test(text)) return text;
    throw new Error(`expected ${wanted}, but this is ${describeValue(text)}`);
  });
}

export function isName(text: string): boolean {
  return NAME.test(text);
}

export const NAME_RULE = "1 to 32 of the characters a-z, 0-9 and -";

export const name = matching(NAME, `a name of ${NAME_RULE}`);
export const groupName = matching(/^[A-Za-z0-9._-]{1,64}$/, "a name of 1 to 64 of a-z, A-Z, 0-9, ., _ and -");
export const unixGroup = matching(/^[A-Za-z_][A-Za-z0-9_-]{0,31}$/, "the name of a group of this host");
export const interfaceName = checkedString(checkInterfaceName);
export const packageName = matching(PACKAGE, 'a package name such as "git" or "git=1:2.39.5-0"');

export const ubuntuSeries = matching(/^[a-z]{2,32}$/, 'the code name of a release such as "noble", or "lts"');
export const debianSuite = matching(
  /^[a-z][a-z0-9.-]{0,31}$/,
  'the code name of a release such as "bookworm"',
);
export const sha256 = matching(/^[0-9a-f]{64}$/, "a SHA-256 checksum, 64 of the characters 0-9 and a-f");
export const kernelArgument = matching(
  /^[\x21-\x7e]{1,512}$/,
  "one argument of the kernel's command line, without white space",
);
export const rootDevice = matching(
  /^(\/dev\/[\w/-]+|(LABEL|UUID|PARTLABEL|PARTUUID)=[\w.:-]+)$/,
  'a device such as "/dev/vda1" or "LABEL=root"',
);

/** A text that no message may show. */
export const secret: z.ZodType<string, unknown> = z.unknown().transform((value, context) => {
  if (typeof value === "string" && value.trim() !== "") return value.trim();
  context.addIssue({ code: "custom", message: "expected a text that is not empty" });
  return z.NEVER;
});

/** An `http:` or `https:` URL, without a slash at its end. */
export const mirrorUrl = checkedString((text) => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === "https:" || url?.protocol === "http:") return text.replace(/\/+$/, "");
  throw new Error(`expected a URL that begins with https:// or http://, but this is ${describeValue(text)}`);
});

/** A server's URL; the same as a mirror's. */
export const serverUrl = mirrorUrl;

/** Of a libvirt daemon with QEMU. */
export const libvirtUri = checkedString((text) => {
  const url = /^qemu(\+[a-z0-9]+)?:\/\/\S*$/.test(text) && URL.canParse(text) ? new URL(text) : undefined;
  if (url !== undefined && url.password !== "") {
    throw new Error(
      "a password has no place in a URI, which others can read; let an SSH key or a certificate do",
    );
  }
  if (url !== undefined && /^qemu(\+unix)?:\/\/\/session\b(?!.*[?&]socket=\/)/.test(text)) {
    throw new Error(
      "this would be a session of root, who has none; name the socket of its user's, as in " +
        '"qemu+unix:///session?socket=/run/user/1000/libvirt/libvirt-sock", or use qemu:///system',
    );
  }
  if (url !== undefined && /^\/(system|session)$/.test(url.pathname)) return text;
  throw new Error(
    `expected a URI such as "qemu:///system" or "qemu+ssh://root@rack7/system", but this is ${describeValue(text)}`,
  );
});

export const instanceSize: z.ZodType<InstanceSize, unknown> = checkedString(parseInstanceSize);

/** A mirror's URL, or a whole one-line entry of apt's `sources.list`. */
export const packageSource = checkedString((text) => {
  const isEntry = /^deb\s+(\[[^\]\n]*\]\s+)?\S+:\S+\s+\S+[^\n]*$/.test(text);
  if (isEntry || (URL.canParse(text) && !/\s/.test(text))) return text;
  throw new Error(
    `expected a mirror's URL, or a line such as "deb http://deb.debian.org/debian bookworm main", but this is ${describeValue(text)}`,
  );
});

/** An absolute path, without `..` and without a slash at its end. */
export const absolutePath = checkedString((text) => {
  if (!text.startsWith("/") || text.includes("\0")) {
    throw new Error(`expected an absolute path (it begins with /), but this is ${describeValue(text)}`);
  }
  const path = normalize(text);
  return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
});

/** The address of a resolver that a VM can reach. */
export const dnsServer = checkedString((text) => {
  if (!isIPv4(text)) {
    throw new Error(`expected an IPv4 address such as "9.9.9.9", but this is ${describeValue(text)}`);
  }
  if (text.startsWith("127.") || text === "0.0.0.0") {
    throw new Error(`${text} means the VM itself inside a VM; name a resolver that the VM can reach`);
  }
  return text;
});

/** Where a TCP server listens; undefined: nowhere. */
export interface ListenAddress {
  /** An IP address. */
  host: string;
  port: number;
}

export const listenAddress: z.ZodType<ListenAddress | undefined, unknown> = checkedString((text) => {
  if (text === "off") return undefined;
  const [, host = "", digits = ""] = /^\[?([0-9a-fA-F.:]+?)\]?:(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  const isBracketed = text.startsWith("[") && text.includes("]:");
  if (isIP(host) === (isBracketed ? 6 : 4) && port >= 1 && port <= 65_535) return { host, port };
  throw new Error(
    `expected "off", or an IP address and a port such as "127.0.0.1:9464" or "[::1]:9464", but this is ${describeValue(text)}`,
  );
});

/** Where the web page is served; undefined: nowhere. */
export type PageAddress = ListenAddress | { readonly path: string };

export const pageAddress: z.ZodType<PageAddress | undefined, unknown> = checkedString((text) => {
  if (text.startsWith("/")) return { path: absolutePath.parse(text) };
  const listen = listenAddress.safeParse(text);
  if (listen.success) return listen.data;
  throw new Error(
    `expected "off", the absolute path of a unix socket, or an IP address and a port such as "127.0.0.1:9465", but this is ${describeValue(text)}`,
  );
});

const DEBUG_PORTS = { first: 1_024, last: 65_535 };

/** What other plugins call the address of their debug server: of this host alone, for any user of the daemon's socket may say it. */
export const debugAddress: z.ZodType<ListenAddress | undefined, unknown> = checkedString((text) => {
  if (text === "") return undefined;
  const [, host = "", digits = ""] = /^(localhost|127(?:\.\d{1,3}){3}|\[::1\]):(\d{1,5})$/.exec(text) ?? [];
  const [port, plain] = [Number(digits), host.replace(/^\[|\]$/g, "")];
  const address = plain === "localhost" ? "127.0.0.1" : plain;
  if (isLoopback(address) && port >= DEBUG_PORTS.first && port <= DEBUG_PORTS.last)
    return { host: address, port };
  throw new Error(
    `expected an address of the loopback and a port from ${DEBUG_PORTS.first} such as "127.0.0.1:27060", but this is ${describeValue(text)}; ` +
      "on any other address the page is served by page_listen and page_token_file in the daemon's configuration",
  );
});

/** Whether only this host can reach the IP address. */
export function isLoopback(address: string): boolean {
  return address === "::1" || (isIPv4(address) && address.startsWith("127."));
}

/** Where a service of this host listens for VMs: on the loopback, where nobody else gets to. */
export const loopbackAddress: z.ZodType<ListenAddress, unknown> = checkedString((text) => {
  const [, host = "", digits = ""] = /^([0-9.]+):([1-9]\d{0,4})$/.exec(text) ?? [];
  const port = Number(digits);
  if (isIPv4(host) && host.startsWith("127.") && port <= 65_535) return { host, port };
  throw new Error(
    `expected an IPv4 address of the loopback and a port such as "127.0.0.1:5000", but this is ${describeValue(text)}`,
  );
});

export const command = checkedString((text) => {
  if (text.trim() === "") throw new Error("an empty command does nothing; leave it out");
  if (text.includes("\0")) throw new Error("a command cannot hold a NUL character");
  return text;
});

export const vmSubnet: z.ZodType<VmSubnet, unknown> = checkedString(parseVmSubnet);
export const vmSubnet6: z.ZodType<Ipv6Prefix, unknown> = checkedString(parseVmSubnet6);

/** A range of uids such as "600000-665535", or "none". */
export const userRange: z.ZodType<UserRange | "none", unknown> = checkedString((text) => {
  if (text === "none") return text;
  const [first = 0, last = 0] = (/^([1-9]\d{0,9})-([1-9]\d{0,9})$/.exec(text) ?? []).slice(1).map(Number);
  // The last two numbers mean "nobody" to the kernel.
  if (first > 0 && first < last && last <= 2 ** 32 - 3) return { first, last };
  throw new Error(
    `expected a range of uids such as "1900000000-1900065535", or "none", but this is ${describeValue(text)}`,
  );
});

export const egressDenied = checkedString((text) => (text === PRIVATE ? text : parsePrefix(text)));
export const egressAllowed: z.ZodType<AllowedDestination, unknown> = checkedString(parseAllowed);
export const hostService: z.ZodType<Ports, unknown> = checkedString(parsePorts);

/** Milliseconds, of a text such as "2m30s" or a whole number of seconds. */
export function duration(minSeconds: number, maxSeconds: number): z.ZodType<number, unknown> {
  return z.unknown().transform((value, context) => {
    const fail = (message: string): never => {
      context.addIssue({ code: "custom", message });
      return z.NEVER;
    };
    const ms = parseDuration(value);
    if (ms === undefined) {
      return fail(
        `expected a duration such as "90s", "2m30s" or "1h", or a whole number of seconds, but this is ${describeValue(value)}`,
      );
    }
    if (ms >= minSeconds * 1000 && ms <= maxSeconds * 1000) return ms;
    const [min, max] = [formatDuration(minSeconds * 1000), formatDuration(maxSeconds * 1000)];
    return fail(`must be from ${min} to ${max}, but this is ${describeValue(value)}`);
  });
}
