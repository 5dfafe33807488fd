/**
 * A stand-in for VMware Cloud Director, of which there is neither a free server nor a simulator: it keeps real state, and refuses what the
 * real one refuses. That its answers are the real one's is shown by the vendor's own Go client (test/sources/vcd-client).
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { text as readText } from "node:stream/consumers";
import { createSelfSignedCertificate } from "../../../src/plugin/certificate.ts";
import { buildXml, parseXml, type XmlNode } from "../../../src/sources/vcd/xml.ts";
import { Operations, type Steering, SWIFT } from "./operations.ts";
import { answerQuery } from "./query.ts";
import { forbidden, Refusal, unauthorized } from "./refusal.ts";
import { Renderer } from "./render.ts";
import { type Answer, route } from "./routes.ts";
import { checkOrder } from "./schema.ts";
import { createWorld, type Session, type World } from "./world.ts";

export interface Director {
  readonly url: string;
  /** PEM of its own certificate. */
  readonly certificate: string;
  readonly world: World;
  readonly steering: Steering;
  /** `GET /api/org 200`, of all requests since it was made. */
  readonly requests: readonly string[];
  /** How long it has worked on its answers. */
  readonly busyMs: number;
  /** The next request whose method and path this is is answered so. */
  failNext(
    method: string,
    path: RegExp,
    answer: { status: number; headers?: Record<string, string>; body?: string },
  ): void;
  start(): Promise<void>;
  stop(): Promise<void>;
}

const VERSIONS = ["36.3", "37.0", "37.1", "37.2", "37.3", "38.0", "38.1", "39.0"];
const SESSION_MS = 3_600_000;
const HOST = "localhost";

interface Failure {
  method: string;
  path: RegExp;
  answer: { status: number; headers?: Record<string, string>; body?: string };
}

/** @param pool the addresses of its network */
export async function startDirector(pool: readonly string[]): Promise<Director> {
  const { certificatePem, privateKeyPem } = await createSelfSignedCertificate();
  const world = createWorld(pool);
  const steering: Steering = { ...SWIFT };
  const requests: string[] = [];
  const failures: Failure[] = [];
  const sockets = new Set<Socket>();
  let server: Server | undefined;
  let port = 0;
  let busyMs = 0;
  const url = () => `https://${HOST}:${port}`;
  const renderer = new Renderer(world, url);
  const parts = { world, renderer, operations: new Operations(world, steering) };

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await readText(request);
    const { pathname } = new URL(request.url ?? "", url());
    const index = failures.findIndex(({ method, path }) => method === request.method && path.test(pathname));
    const [failure] = index < 0 ? [] : failures.splice(index, 1);
    const begunAt = performance.now();
    const answer = failure?.answer ?? answerTo({ request, body, pathname });
    busyMs += performance.now() - begunAt;
    requests.push(`${request.method} ${pathname} ${answer.status}`);
    response.writeHead(answer.status, { "content-type": "application/*+xml", ...answer.headers });
    response.end(answer.body ?? "");
  };

  const answerTo = (asked: Asked): PlainAnswer => {
    try {
      return dispatch(asked);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const attributes = {
        "@message": `[ ${randomBytes(8).toString("hex")} ] ${error.message}`,
        "@majorErrorCode": error.status,
        "@minorErrorCode": error.minor,
      };
      return { status: error.status, body: buildXml("Error", attributes) };
    }
  };

  const dispatch = ({ request, body, pathname }: Asked): PlainAnswer => {
    const { method = "GET", headers } = request;
    if (pathname.startsWith("/oauth/")) return logIn(world, pathname, new URLSearchParams(body));
    if (pathname === "/api/versions") return xmlAnswer(versions(url()));
    const { isProvider } = sessionOf(world, headers);
    if (pathname === "/api/query") return xmlAnswer(answerQuery(parts, request.url ?? "", isProvider));
    const found = route(parts, method, pathname);
    if (found === undefined) throw forbidden();
    const { mime, element, act } = found;
    if (
      mime !== undefined &&
      headers["content-type"]?.toLowerCase() !== `application/vnd.vmware.vcloud.${mime}+xml`.toLowerCase()
    ) {
      throw new Refusal(415, "UNSUPPORTED_MEDIA_TYPE", `The content type must be ${mime}+xml.`);
    }
    return xmlAnswer(act(element === undefined ? {} : parsed(body, element)));
  };

  const start = async (): Promise<void> => {
    server = createServer(
      { key: privateKeyPem, cert: certificatePem },
      (request, response) => void handle(request, response),
    );
    server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
    });
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    port = (server.address() as AddressInfo).port;
  };
  await start();
  return {
    url: url(),
    certificate: certificatePem,
    world,
    steering,
    requests,
    get busyMs() {
      return busyMs;
    },
    failNext: (method, path, answer) => void failures.push({ method, path, answer }),
    start,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server?.close(resolve));
    },
  };
}

interface Asked {
  request: IncomingMessage;
  body: string;
  pathname: string;
}

interface PlainAnswer {
  status: number;
  headers?: Record<string, string>;
  body?: string;
}

function sessionOf(world: World, { authorization, accept }: IncomingMessage["headers"]): Session {
  const token = /^bearer (.+)$/i.exec(authorization ?? "")?.[1] ?? "";
  const session = world.sessions.get(token);
  if (session === undefined || session.until < Date.now()) throw unauthorized();
  const version = /version=([\d.]+)/.exec(accept ?? "")?.[1] ?? "";
  if (!VERSIONS.includes(version))
    throw new Refusal(406, "NOT_ACCEPTABLE", "The request has invalid accept header.");
  return session;
}

function xmlAnswer({ status = 200, name, node }: Answer): PlainAnswer {
  return node === undefined ? { status: 204 } : { status, body: buildXml(name, node) };
}

function parsed(body: string, element: string): XmlNode {
  const xml = parseXml(body);
  if (xml?.name !== element)
    throw new Refusal(400, "BAD_REQUEST", `Bad request - a ${element} was expected.`);
  checkOrder(element, xml.node);
  return xml.node;
}

function logIn(world: World, pathname: string, form: URLSearchParams): PlainAnswer {
  const json = { "content-type": "application/json" };
  const refuse = (error: string): PlainAnswer => ({
    status: 400,
    headers: json,
    body: JSON.stringify({ error }),
  });
  if (form.get("grant_type") !== "refresh_token") return refuse("unsupported_grant_type");
  const isTenant = pathname === `/oauth/tenant/${world.org.name}/token`;
  if (!isTenant && pathname !== "/oauth/provider/token") return refuse("invalid_request");
  if (!world.tokens.has(form.get("refresh_token") ?? "")) return refuse("invalid_grant");
  const access_token = randomBytes(48).toString("hex");
  world.sessions.set(access_token, { until: Date.now() + SESSION_MS, isProvider: !isTenant });
  const body = JSON.stringify({
    access_token,
    token_type: "Bearer",
    expires_in: SESSION_MS / 1000,
    refresh_token: null,
  });
  return { status: 200, headers: json, body };
}

function versions(url: string): Answer {
  const infos = VERSIONS.map((version) => ({
    "@deprecated": false,
    Version: version,
    LoginUrl: `${url}/api/sessions`,
  }));
  return { name: "SupportedVersions", node: { VersionInfo: infos } };
}
