/**
 * The token that guards the page, and the sessions of those who have shown it: a cookie that says until when, signed with the
 * token, so that nothing is kept here, a restart ends no session, and another token ends all.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { FleetingdError, messageOf } from "../errors.ts";

const MIN_LENGTH = 16;
const OTHERS_MAY_READ = 0o007;
const SESSION_MS = 12 * 3_600_000;
const COOKIE = "fleetingd-page";
const FAILURES_PER_MINUTE = 30;
const MINUTE_MS = 60_000;

export interface Guard {
  /** Whether the request carries a session's cookie, or the token itself as `Authorization: Bearer`. */
  admits(request: IncomingMessage): boolean;
  /** The cookie of a new session; undefined if this is not the token. @throws FleetingdError EXHAUSTED */
  open(token: string): string | undefined;
  /** The cookie that ends a session. */
  readonly closing: string;
}

/** @throws FleetingdError INVALID_CONFIG */
export async function readToken(path: string): Promise<string> {
  let text: string;
  let mode: number;
  try {
    [text, { mode }] = await Promise.all([readFile(path, "utf8"), stat(path)]);
  } catch (error) {
    throw invalid(
      `the page's token can't be read: ${messageOf(error)}`,
      "Make the file, or leave page_token_file out.",
    );
  }
  if ((mode & OTHERS_MAY_READ) !== 0)
    throw invalid(`every user of this host may read the page's token in ${path}`, `Run: chmod 600 ${path}`);
  const token = text.trim();
  if (token.length >= MIN_LENGTH && /^[\x21-\x7e]+$/.test(token)) return token;
  throw invalid(
    `the page's token in ${path} is not ${MIN_LENGTH} printable characters or more on one line`,
    `Run: openssl rand -hex 32 >${path}`,
  );
}

function invalid(message: string, hint: string): FleetingdError {
  return new FleetingdError("INVALID_CONFIG", message, { hint });
}

export function createGuard(token: string, now: () => number = Date.now): Guard {
  let failures: number[] = [];
  const sign = (text: string): string => createHmac("sha256", token).update(text).digest("base64url");
  const isToken = (text: string): boolean => isSame(sign(`token ${text}`), sign(`token ${token}`));
  const isSession = (value: string): boolean => {
    const [until = "", signature = ""] = value.split(".");
    return isSame(signature, sign(`until ${until}`)) && Number(until) > now();
  };
  const isHeldBack = (): boolean => {
    failures = failures.filter((at) => now() - at < MINUTE_MS);
    return failures.length >= FAILURES_PER_MINUTE;
  };
  const attempt = (text: string): boolean => {
    if (isToken(text)) return true;
    failures.push(now());
    return false;
  };
  return {
    admits({ headers }) {
      if (cookiesOf(headers.cookie).some((value) => isSession(value))) return true;
      const [, bearer] = /^Bearer ([\x21-\x7e]+)$/i.exec(headers.authorization ?? "") ?? [];
      return bearer !== undefined && !isHeldBack() && attempt(bearer);
    },
    open(text) {
      if (isHeldBack())
        throw new FleetingdError(
          "EXHAUSTED",
          "too many wrong tokens in the last minute; try again in a while",
        );
      if (!attempt(text)) return undefined;
      const until = String(now() + SESSION_MS);
      return cookie(`${until}.${sign(`until ${until}`)}`, SESSION_MS / 1_000);
    },
    closing: cookie("", 0),
  };
}

function cookie(value: string, maxAgeSeconds: number): string {
  return `${COOKIE}=${value}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${maxAgeSeconds}`;
}

function cookiesOf(header = ""): string[] {
  return header
    .split(";")
    .map((part) => part.trim().split("=", 2))
    .flatMap(([name, value = ""]) => (name === COOKIE ? [value] : []));
}

/** In the same time wherever they differ. */
function isSame(a: string, b: string): boolean {
  const [first, second] = [Buffer.from(a), Buffer.from(b)];
  return first.length === second.length && timingSafeEqual(first, second);
}
