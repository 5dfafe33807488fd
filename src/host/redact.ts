/** What a server says may hold what it was told in confidence: nothing of that reaches a log or an error. */

export const HIDDEN = "[redacted]";
const MAX_LENGTH = 1_000;
/** `"password": "…"`, `access_token=…`, `X-Auth-Token: …`; not Ignition's `"passwd": {…}`, which has users. */
const SECRET_FIELDS =
  /(?!["']?passwd["']?\s*:\s*\{)(["']?[\w-]*(?:password|passwd|secret|token|private[_-]?key|adminpass)[\w-]*["']?\s*[:=]\s*)(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;&}\]]+)/gi;
const AUTHORIZATION = /\b(authorization\s*[:=]\s*)[^\n,;]+/gi;
const PRIVATE_KEYS = /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g;
/** `https://user:…@host` */
const URL_PASSWORDS = /(:\/\/[^\s:/@]*:)[^\s@/]+(?=@)/g;
const GITLAB_TOKENS = /\bgl(?:agent|cbt|dt|ft|imt|pat|ptt|rt|soat)-[\w.-]{8,}/g;

/**
 * The text without secrets, and of a length that fits into an error.
 * @param secrets what must not be shown whatever it stands beside
 */
export function redact(text: string, secrets: readonly string[] = []): string {
  const known = secrets
    .filter((secret) => secret.length > 3)
    .reduce((rest, secret) => rest.replaceAll(secret, HIDDEN), text);
  const safe = withoutSecrets(known);
  return safe.length > MAX_LENGTH ? `${safe.slice(0, MAX_LENGTH)}…` : safe;
}

/** The whole text, without what looks like a secret. */
export function withoutSecrets(text: string): string {
  return text
    .replace(PRIVATE_KEYS, HIDDEN)
    .replace(GITLAB_TOKENS, HIDDEN)
    .replace(URL_PASSWORDS, `$1${HIDDEN}`)
    .replace(AUTHORIZATION, `$1${HIDDEN}`)
    .replace(SECRET_FIELDS, `$1${HIDDEN}`);
}
