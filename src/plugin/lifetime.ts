/**
 * When the plugin ends. A plugin that ends is never started again, and one that stays after its host is gone is never
 * noticed, so:
 *
 * - while the host's broker stream is open, signals are ignored (a terminal or a service manager sends them to the whole
 *   process group, and the host still needs us to delete its instances);
 * - when that stream ends, the parent is gone, or no host has come within a minute, it is over.
 */
import type { Logger } from "../log.ts";

export interface Lifetime {
  /** The reason, when it is over. */
  readonly ended: Promise<string>;
  brokerOpened(): void;
  brokerClosed(): void;
  end(reason: string): void;
}

const PARENT_POLL_MS = 1_000;
const FIRST_CONTACT_MS = 60_000;
// SIGINT is not among them: it never ends a plugin.
const ENDING_SIGNALS = ["SIGTERM", "SIGHUP", "SIGQUIT"] as const;

export function watchLifetime(logger: Logger): Lifetime {
  let openBrokers = 0;
  let end: (reason: string) => void = () => undefined;
  const ended = new Promise<string>((resolve) => {
    end = resolve;
  });

  process.on("SIGINT", () => logger.debug("ignored SIGINT"));
  for (const signal of ENDING_SIGNALS) {
    process.on(signal, () => {
      if (openBrokers === 0) end(`received ${signal}`);
      else logger.debug(`ignored ${signal}: the runner still needs this plugin`);
    });
  }

  const parent = process.ppid;
  const poll = setInterval(() => {
    if (process.ppid !== parent) end("the process that started the plugin is gone");
  }, PARENT_POLL_MS);
  const contact = setTimeout(() => end("no host has connected"), FIRST_CONTACT_MS);
  void ended.then(() => {
    clearInterval(poll);
    clearTimeout(contact);
  });

  return {
    ended,
    end,
    brokerOpened: () => {
      openBrokers++;
      clearTimeout(contact);
    },
    brokerClosed: () => {
      openBrokers--;
      if (openBrokers === 0) end("the host has closed its connection");
    },
  };
}
