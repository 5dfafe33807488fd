/** Structured logging to standard error: standard output belongs to results and to the plugin handshake. */

export type LogLevel = "debug" | "info" | "warn" | "error";
/**
 * `text` for people, `json` for collectors, `journald` for a systemd unit (text behind a priority prefix),
 * `hclog` for GitLab Runner, which parses a plugin's standard error.
 */
export type LogFormat = "text" | "json" | "journald" | "hclog";
export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger whose lines all carry `fields` as well. */
  child(fields: LogFields): Logger;
}

const LEVELS: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };
const SYSLOG_PRIORITY: Readonly<Record<LogLevel, number>> = { debug: 7, info: 6, warn: 4, error: 3 };
// GitLab Runner demotes lines of 64 KiB or more; what is cut is said.
const MAX_VALUE_LENGTH = 8 * 1024;

/** A line before it is written. */
export interface LogEntry {
  /** ISO 8601, UTC. */
  time: string;
  level: LogLevel;
  message: string;
  fields: Readonly<Record<string, string | number | boolean | null>>;
}

export interface LoggerOptions {
  format: LogFormat;
  level: LogLevel;
  fields?: LogFields;
  /** Gets every line that is written, too. */
  onEntry?: (entry: LogEntry) => void;
  write?: (line: string) => void;
}

export function createLogger(options: LoggerOptions): Logger {
  const write = options.write ?? ((line: string) => void process.stderr.write(line));
  const base = options.fields ?? {};
  const emit = (level: LogLevel, message: string, fields: LogFields = {}): void => {
    if (LEVELS[level] < LEVELS[options.level]) return;
    const entry = newEntry(level, message, { ...base, ...fields });
    options.onEntry?.(entry);
    write(`${formatLine(options.format, entry)}\n`);
  };
  return {
    debug: (message, fields) => emit("debug", message, fields),
    info: (message, fields) => emit("info", message, fields),
    warn: (message, fields) => emit("warn", message, fields),
    error: (message, fields) => emit("error", message, fields),
    child: (fields) => createLogger({ ...options, fields: { ...base, ...fields } }),
  };
}

/** A logger that drops everything. */
export const silentLogger: Logger = createLogger({ format: "text", level: "error", write: () => undefined });

function newEntry(level: LogLevel, message: string, fields: LogFields): LogEntry {
  const shown = Object.entries(fields).flatMap(([key, value]) =>
    value === undefined ? [] : [[key, typeof value === "string" ? shorten(value) : value] as const],
  );
  return {
    time: new Date().toISOString(),
    level,
    message: shorten(message),
    fields: Object.fromEntries(shown),
  };
}

function formatLine(format: LogFormat, { time, level, message, fields }: LogEntry): string {
  switch (format) {
    case "json":
      return JSON.stringify({ time, level, message, ...fields });
    case "hclog":
      // No @timestamp: the runner demotes a line whose timestamp is not exactly as it expects.
      return JSON.stringify({ ...fields, "@level": level, "@message": message });
    case "journald":
      return `<${SYSLOG_PRIORITY[level]}>${oneLine(message)}${textFields(fields)}`;
    case "text":
      return `${time} ${level.padEnd(5)} ${oneLine(message)}${textFields(fields)}`;
  }
}

function textFields(fields: Record<string, unknown>): string {
  return Object.entries(fields)
    .map(([key, value]) => ` ${key}=${JSON.stringify(value)}`)
    .join("");
}

function shorten(text: string): string {
  if (text.length <= MAX_VALUE_LENGTH) return text;
  return `${text.slice(0, MAX_VALUE_LENGTH)}… (${text.length - MAX_VALUE_LENGTH} more characters)`;
}

function oneLine(text: string): string {
  return text.replaceAll("\n", "\\n");
}
