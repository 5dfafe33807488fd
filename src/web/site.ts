/** What the page's server answers, wherever it listens. It only reads, but for who has shown the token. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { timelineOf } from "../api/timeline.ts";
import { FleetingdError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { Actions } from "./actions.ts";
import { CLOSE, isForeign, readBody, send } from "./answers.ts";
import type { Assets } from "./assets.ts";
import { Broadcast } from "./broadcast.ts";
import type { DaemonActions, DaemonFacts } from "./facts.ts";
import { Consoles, streamPicture } from "./live.ts";
import type { Access } from "./messages.ts";
import { toPageJson } from "./picture.ts";
import type { Guard } from "./token.ts";

export interface SiteOptions {
  facts: DaemonFacts;
  actions: DaemonActions;
  assets: Assets;
  /** Undefined: there is no token, and nothing can be changed. */
  guard: Guard | undefined;
  logger: Logger;
}

const HTML = "text/html; charset=utf-8";
const JSON_TYPE = "application/json";
const INSTANCE = /^\/instances\/([\w-]{1,64})(\/console)?$/;
const MAX_FORM_BYTES = 4 * 1024;
const NO_TOKEN = "This page wants its token.\n";
const BEARER = { "www-authenticate": "Bearer" };
const NO_ACTIONS = "Nothing can be changed here, because no token is configured (page_token_file).\n";
const NO_CONSOLES = "Consoles are shown to who has shown a token, or comes by the page's unix socket.\n";

export class Site {
  readonly #options: SiteOptions;
  readonly #broadcast: Broadcast;
  readonly #consoles = new Consoles();
  readonly #actions: Actions;

  constructor(options: SiteOptions) {
    this.#options = options;
    this.#broadcast = new Broadcast(options.facts, options.logger);
    this.#actions = new Actions(options.actions);
  }

  /** @param isPrivate whether nobody but root can come this way */
  async answer(request: IncomingMessage, response: ServerResponse, isPrivate: boolean): Promise<void> {
    const { guard, assets } = this.#options;
    const path = request.url?.split("?", 1)[0] ?? "/";
    const say = (status: number, text: string, headers = {}): void =>
      send(request, response, text, { status, headers });
    if (isForeign(request)) return say(403, "Other sites have no business here.\n");
    const isRead = request.method === "GET" || request.method === "HEAD";
    if (guard !== undefined && request.method === "POST" && (path === "/login" || path === "/logout"))
      return this.#changeSession(request, response, path, guard);
    if (request.method === "POST" && path === "/actions") return this.#act(request, response);
    if (!isRead) return say(405, "This can only be read.\n", { allow: "GET, HEAD" });
    const file = assets.files.get(path);
    const isAdmitted = guard === undefined || guard.admits(request);
    if (file !== undefined && (file.isPublic || isAdmitted))
      return send(request, response, file.body, { type: file.type });
    if (!isAdmitted) {
      if (path === "/") return send(request, response, assets.login, { status: 401, type: HTML });
      return say(401, NO_TOKEN, BEARER);
    }
    return this.#tell(request, response, path, {
      consoles: guard !== undefined || isPrivate,
      actions: guard !== undefined,
      session: guard !== undefined,
    });
  }

  /** For who has shown the token, and where there is none for nobody. */
  async #act(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { guard } = this.#options;
    if (guard === undefined) return send(request, response, NO_ACTIONS, { status: 403 });
    if (!guard.admits(request)) return send(request, response, NO_TOKEN, { status: 401, headers: BEARER });
    return this.#actions.answer(request, response);
  }

  /** To who may know. */
  async #tell(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    access: Access,
  ): Promise<void> {
    const { assets, facts } = this.#options;
    if (path === "/") return send(request, response, assets.page, { type: HTML });
    if (path === "/live") return streamPicture(request, response, this.#broadcast, access);
    const say = (status: number, text: string): void => send(request, response, text, { status });
    const [, instance, wantsConsole] = INSTANCE.exec(path) ?? [];
    if (instance === undefined) return say(404, "There is no such page.\n");
    if (wantsConsole === undefined) {
      const life = timelineOf(instance, facts.events.list(instance), new Date());
      if (life === undefined) return say(404, "Nothing is known of this VM.\n");
      return send(request, response, toPageJson(life), { type: JSON_TYPE });
    }
    if (!access.consoles) return say(403, NO_CONSOLES);
    const log = facts.consolePath(instance);
    if (log === undefined) return say(404, "There is no such VM.\n");
    return this.#consoles.stream(request, response, log);
  }

  close(): void {
    this.#broadcast.close();
  }

  /** By an ordinary form, for nothing of the page's program is sent to who has no session. */
  async #changeSession(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    guard: Guard,
  ): Promise<void> {
    const back = (headers: Readonly<Record<string, string>>): void =>
      send(request, response, "", { status: 303, headers: { location: "/", ...headers } });
    const body = await readBody(request, MAX_FORM_BYTES);
    if (body === undefined)
      return send(request, response, "That is no token.\n", { status: 413, headers: CLOSE });
    if (path === "/logout") return back({ "set-cookie": guard.closing });
    try {
      const cookie = guard.open(new URLSearchParams(body).get("token")?.trim() ?? "");
      if (cookie !== undefined) return back({ "set-cookie": cookie });
      this.#options.logger.warn("somebody has shown a wrong token to the web page");
      const { login } = this.#options.assets;
      send(request, response, login.replace(" hidden", ""), { status: 401, type: HTML });
    } catch (error) {
      if (!(error instanceof FleetingdError) || error.code !== "EXHAUSTED") throw error;
      send(request, response, `${error.message}\n`, { status: 429 });
    }
  }
}
