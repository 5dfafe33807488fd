/** Serves the web page: where the configuration says, and where runners ask for it (`debug_server_addr`). */
import { unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { FleetingdError, messageOf } from "../errors.ts";
import { ensureDirectory } from "../host/files.ts";
import { formatAddress, type HttpServer, startHttpServer } from "../host/http-server.ts";
import { isLeftOver } from "../host/leftover-socket.ts";
import type { Logger } from "../log.ts";
import { loadAssets } from "./assets.ts";
import type { DaemonActions, DaemonFacts } from "./facts.ts";
import { Site } from "./site.ts";
import { createGuard, readToken } from "./token.ts";

export type PageListen = { readonly host: string; readonly port: number } | { readonly path: string };

export interface PageServerOptions {
  /** Undefined: only where runners ask for it. */
  pageListen: PageListen | undefined;
  pageTokenFile: string | undefined;
  facts: DaemonFacts;
  actions: DaemonActions;
  logger: Logger;
}

const MAX_CONNECTIONS = 64;
/** Every runner of the host may name one, and the same one. */
const MAX_DEBUG_ADDRESSES = 8;

export class PageServer {
  readonly #options: PageServerOptions;
  readonly #servers = new Map<string, Promise<HttpServer>>();
  #site: Promise<Site> | undefined;

  constructor(options: PageServerOptions) {
    this.#options = options;
  }

  /** @throws FleetingdError INVALID_CONFIG, UNAVAILABLE, ALREADY_EXISTS */
  async start(): Promise<void> {
    const { pageListen: listen } = this.#options;
    if (listen === undefined) return;
    try {
      await this.#listen(listen);
    } catch (error) {
      if (error instanceof FleetingdError) throw error;
      const message = `the web page can't be served on ${nameOf(listen)}: ${messageOf(error)}`;
      throw new FleetingdError("UNAVAILABLE", message, {
        hint: 'Set page_listen to an address of this host and a port that is free, to a path, or to "off".',
        cause: error,
      });
    }
  }

  /** What stands against it is logged: no runner has to do without its VMs for that. */
  async serveAlso(listen: { host: string; port: number }): Promise<void> {
    const { logger } = this.#options;
    const name = nameOf(listen);
    if (this.#servers.has(name)) return;
    if (this.#servers.size > MAX_DEBUG_ADDRESSES)
      return logger.warn("the web page is served on many addresses already, and not on this one", {
        address: name,
      });
    try {
      await this.#listen(listen);
    } catch (error) {
      logger.warn("the web page can't be served where a runner asks for it (debug_server_addr)", {
        address: name,
        error: messageOf(error),
      });
    }
  }

  async close(): Promise<void> {
    (await this.#site)?.close();
    const servers = await Promise.allSettled(this.#servers.values());
    for (const server of servers) if (server.status === "fulfilled") await server.value.close();
  }

  /** Known at once, so that nobody else begins the same. */
  async #listen(listen: PageListen): Promise<void> {
    const starting = this.#begin(listen);
    this.#servers.set(nameOf(listen), starting);
    try {
      await starting;
    } catch (error) {
      this.#servers.delete(nameOf(listen));
      throw error;
    }
    const at = "path" in listen ? listen.path : `http://${nameOf(listen)}/`;
    this.#options.logger.info("the web page is served", { at });
  }

  async #begin(listen: PageListen): Promise<HttpServer> {
    const { logger } = this.#options;
    const site = await this.#openSite();
    const isPrivate = "path" in listen;
    if (isPrivate) {
      await ensureDirectory(dirname(listen.path), 0o755);
      if (await isLeftOver(listen.path, "page_listen")) await unlink(listen.path);
    }
    return startHttpServer({
      listen,
      maxConnections: MAX_CONNECTIONS,
      answer: (request, response) => site.answer(request, response, isPrivate),
      onError: (error) => logger.error("a request of the web page failed", { error: messageOf(error) }),
    });
  }

  /** One for all addresses; a token that can't be read may be mended until it is wanted again. */
  async #openSite(): Promise<Site> {
    const opening = this.#site ?? openSite(this.#options);
    this.#site = opening;
    try {
      return await opening;
    } catch (error) {
      this.#site = undefined;
      throw error;
    }
  }
}

async function openSite({ facts, actions, pageTokenFile, logger }: PageServerOptions): Promise<Site> {
  const guard = pageTokenFile === undefined ? undefined : createGuard(await readToken(pageTokenFile));
  return new Site({ facts, actions, guard, logger, assets: await loadAssets() });
}

function nameOf(listen: PageListen): string {
  return "path" in listen ? listen.path : formatAddress(listen);
}
