/** What the page does to the daemon, for who has shown the token: one request for each thing, so many at a time. */
import type { IncomingMessage, ServerResponse } from "node:http";
import * as z from "zod";
import { describeError, type ErrorCode, FleetingdError } from "../errors.ts";
import { withTimeout } from "../host/wait.ts";
import { CLOSE, readBody, send } from "./answers.ts";
import type { DaemonActions } from "./facts.ts";
import type { PageAction } from "./messages.ts";

const MAX_BODY_BYTES = 4 * 1024;
const MAX_UNDER_WAY = 4;
const TIMEOUT_MS = 10_000;
/**
 * No form has it, and no other site's program may send it without asking first, which is always refused. So even a browser
 * that says neither where a request comes from, nor keeps the cookie to this site, does nothing in its owner's name.
 */
const OWN_HEADER = "x-fleetingd-page";

const name = z.string().min(1).max(200);
const actionSchema: z.ZodType<PageAction> = z.union([
  z.strictObject({ action: z.enum(["drain", "undo-drain"]) }),
  z.strictObject({ action: z.literal("prebuild"), pool: name }),
  z.strictObject({ action: z.literal("remove"), instance: name }),
]);

const STATUSES: Partial<Record<ErrorCode, number>> = { NOT_FOUND: 404, INVALID_ARGUMENT: 400, TIMEOUT: 504 };

export class Actions {
  readonly #daemon: DaemonActions;
  #underWay = 0;

  constructor(daemon: DaemonActions) {
    this.#daemon = daemon;
  }

  /** In a sentence, whether it is done or refused. */
  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const say = (status: number, text: string, headers = {}): void =>
      send(request, response, `${text}\n`, { status, headers });
    if (request.headers[OWN_HEADER] === undefined)
      return say(403, `Nothing is changed without the header ${OWN_HEADER}.`, CLOSE);
    if (this.#underWay >= MAX_UNDER_WAY)
      return say(503, "Too much is being done already; try again in a while.", CLOSE);
    this.#underWay += 1;
    try {
      const body = await readBody(request, MAX_BODY_BYTES);
      if (body === undefined) return say(413, "That is too long.", CLOSE);
      const action = parse(body);
      if (action === undefined) return say(400, "That is nothing that can be done here.");
      say(200, await withTimeout(this.#perform(action), TIMEOUT_MS, "the daemon to do it"));
    } catch (error) {
      if (!(error instanceof FleetingdError)) throw error;
      say(STATUSES[error.code] ?? 500, describeError(error));
    } finally {
      this.#underWay -= 1;
    }
  }

  async #perform(wanted: PageAction): Promise<string> {
    switch (wanted.action) {
      case "drain":
        await this.#daemon.drain(true);
        return "No more VMs are made, and those in use end with their jobs.";
      case "undo-drain":
        await this.#daemon.drain(false);
        return "VMs are made again.";
      case "prebuild":
        await this.#daemon.prebuild(wanted.pool);
        return `A new golden image of ${wanted.pool} is being made.`;
      case "remove":
        await this.#daemon.remove(wanted.instance);
        return `${wanted.instance} is being removed.`;
    }
  }
}

function parse(body: string): PageAction | undefined {
  try {
    return actionSchema.safeParse(JSON.parse(body)).data;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
