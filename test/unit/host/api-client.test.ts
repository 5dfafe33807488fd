/** The HTTP layer of all clouds, against a server that answers as each test says. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { ApiClient, type ApiClientOptions, ApiError } from "../../../src/host/api-client.ts";

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

const SECRET = "t0ken-of-the-daemon";
const status =
  (code: number, headers: Record<string, string> = {}, body = "{}"): Answer =>
  (_request, response) =>
    void response.writeHead(code, headers).end(body);

describe("requests to a cloud", () => {
  let server: Server;
  let baseUrl: string;
  /** What is answered next; the last one stays. */
  let answers: Answer[] = [];
  let seen: string[] = [];
  let atOnce = { now: 0, most: 0 };

  before(async () => {
    server = createServer((request, response) => {
      seen.push(`${request.method} ${request.url}`);
      atOnce = { now: atOnce.now + 1, most: Math.max(atOnce.most, atOnce.now + 1) };
      response.once("close", () => void atOnce.now--);
      const [answer = status(200)] = answers;
      if (answers.length > 1) answers.shift();
      answer(request, response);
    });
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  beforeEach(() => {
    answers = [];
    seen = [];
    atOnce = { now: 0, most: 0 };
  });

  const open = (more: Partial<ApiClientOptions> = {}): ApiClient =>
    new ApiClient({ server: "the cloud", baseUrl, requestTimeoutMs: 10_000, maxConcurrent: 2, ...more });
  const failure = async (work: Promise<unknown>): Promise<ApiError> => {
    const error: unknown = await work.then(
      () => assert.fail("it did not fail"),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof ApiError, String(error));
    return error;
  };

  test("what may be sent twice is sent again while the server is in trouble", async () => {
    answers = [status(502), status(500), status(200, {}, '{"a":1}')];
    assert.deepEqual((await open().request({ method: "GET", path: "/x?secret=1" })).json(), { a: 1 });
    assert.equal(seen.length, 3);
  });

  test("what may not be sent twice is sent once, unless the server says that it has not begun", async () => {
    answers = [status(502), status(200)];
    assert.equal((await failure(open().request({ method: "POST", path: "/make" }))).code, "UNAVAILABLE");
    assert.equal(seen.length, 1);
    answers = [status(429), status(503, { "retry-after": "0" }), status(200)];
    await open().request({ method: "POST", path: "/make", json: {} });
    assert.equal(seen.length, 4);
    answers = [status(500), status(200)];
    await open().request({ method: "POST", path: "/ask", json: {}, repeatable: true });
    assert.equal(seen.length, 6);
  });

  test("a server that asks for a long pause gets it, and whoever asks meanwhile is told", async () => {
    answers = [status(503, { "retry-after": "3600" })];
    const client = open();
    const error = await failure(client.request({ method: "GET", path: "/x" }));
    assert.deepEqual([error.code, error.refused, seen.length], ["UNAVAILABLE", true, 1]);
    const next = await failure(client.request({ method: "GET", path: "/x" }));
    assert.match(next.message, /asked to be left alone for another \d+ s/);
    assert.equal(seen.length, 1);
  });

  test("a refusal's status says what it means, and is final", async () => {
    const cases = [
      [400, "INVALID_ARGUMENT"],
      [403, "PERMISSION"],
      [404, "NOT_FOUND"],
      [409, "ALREADY_EXISTS"],
      [501, "INVALID_ARGUMENT"],
    ] as const;
    for (const [code, meaning] of cases) {
      answers = [status(code)];
      const error = await failure(open().request({ method: "GET", path: "/x" }));
      assert.deepEqual([error.status, error.code], [code, meaning]);
    }
    assert.equal(seen.length, cases.length);
    answers = [status(404)];
    const accepted = await open().request({ method: "DELETE", path: "/x", acceptedStatus: [404] });
    assert.equal(accepted.status, 404);
  });

  test("credentials that ended are renewed once, and no error shows a secret", async () => {
    answers = [status(401), status(200)];
    let token = "old";
    const client = open({
      headers: async () => ({ "x-auth-token": token }),
      renew: async () => {
        token = SECRET;
        return true;
      },
      secrets: () => [token],
    });
    await client.request({ method: "POST", path: "/make", json: {} });
    assert.equal(seen.length, 2);
    answers = [status(401, {}, `who is ${SECRET}?`)];
    const error = await failure(client.request({ method: "GET", path: `/x?token=${SECRET}` }));
    assert.deepEqual([error.code, seen.length], ["PERMISSION", 4]);
    assert.ok(!error.message.includes(SECRET), error.message);
  });

  test("no more requests are under way than are allowed", async () => {
    answers = [(_request, response) => void setTimeout(() => response.end("{}"), 20)];
    const client = open();
    await Promise.all(Array.from({ length: 8 }, () => client.request({ method: "GET", path: "/x" })));
    assert.deepEqual([atOnce.most, client.requests], [2, 8]);
  });

  test("a server that never answers is given up, and a request that nobody wants any more at once", async () => {
    answers = [() => undefined];
    const silent = open({ requestTimeoutMs: 100 });
    const error = await failure(silent.request({ method: "POST", path: "/make" }));
    assert.deepEqual([error.code, error.refused, seen.length], ["UNAVAILABLE", false, 1]);
    const unwanted = new AbortController();
    const asking = open().request({ method: "GET", path: "/x", signal: unwanted.signal });
    unwanted.abort();
    await assert.rejects(asking, { code: "CANCELLED" });
  });

  test("a server that is not there was never asked, so that whatever it was is tried again", async () => {
    const client = open({ baseUrl: "http://127.0.0.1:1" });
    const error = await failure(client.request({ method: "POST", path: "/make" }));
    assert.deepEqual([error.code, error.refused, client.requests], ["UNAVAILABLE", true, 4]);
    assert.match(error.message, /the cloud can't be asked \(POST \/make\): the connection was refused/);
  });

  test("a unix socket does as well", async () => {
    const directory = await mkdtemp(join(tmpdir(), "api-client-"));
    const socketPath = join(directory, "socket");
    const local = createServer(
      (request, response) => void response.end(JSON.stringify({ url: request.url })),
    );
    await new Promise<void>((listening) => local.listen(socketPath, listening));
    try {
      const client = open({ socketPath });
      const answer = await client.request({ method: "GET", path: "/1.0/instances?recursion=1" });
      assert.deepEqual(answer.json(), { url: "/1.0/instances?recursion=1" });
      client.close();
    } finally {
      local.close();
      await rm(directory, { recursive: true });
    }
  });

  test("an answer that is no JSON is said to be none", async () => {
    answers = [status(200, {}, "<html>")];
    const answer = await open().request({ method: "GET", path: "/x" });
    assert.throws(() => answer.json(), /answered GET \/x with something that is no JSON/);
  });
});
