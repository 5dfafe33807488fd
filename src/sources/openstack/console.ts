/** What a machine's console tells of its first boot. */

const CLOUD_INIT_ENDED = /Cloud-init v\. \S+ finished at /;
/** Ignition itself says nothing at its end: the first login prompt after the host keys does. */
const SSH_HOST_KEY = /^SSH host key: \S+:\S+ /m;
const LOGIN_PROMPT = /^\S+ login: /m;
const SHOWN_LINES = 10;

/** Whether the machine's own set-up is over. */
export function hasBooted(console: string, useIgnition: boolean): boolean {
  // Serial consoles end lines with a carriage return as well.
  const text = console.replaceAll("\r", "");
  if (!useIgnition) return CLOUD_INIT_ENDED.test(text);
  const keys = SSH_HOST_KEY.exec(text);
  return keys !== null && LOGIN_PROMPT.test(text.slice(keys.index));
}

/** The last lines, for an error. */
export function consoleEnd(console: string): string {
  return console.trimEnd().split("\n").slice(-SHOWN_LINES).join("\n");
}
