/** The web page's server, over real sockets: who is answered what, and what it costs. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { appendFile, chmod, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { type AddressInfo, createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { waitFor } from "../../../src/host/wait.ts";
import { silentLogger } from "../../../src/log.ts";
import type { PictureChange, WholePicture } from "../../../src/web/messages.ts";
import { PageServer, type PageServerOptions } from "../../../src/web/server.ts";
import { type MadeUpDaemon, madeUpDaemon, tellStart } from "../../helpers/page-facts.ts";

const TOKEN = "0123456789abcdef";
const TIMEOUT_MS = 60_000;

let folder: string;
let daemon: MadeUpDaemon;
let server: PageServer | undefined;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "fleetingd-page-"));
});
after(() => rm(folder, { recursive: true }));
beforeEach(() => {
  daemon = madeUpDaemon(4);
});
afterEach(async () => {
  await server?.close();
  server = undefined;
});

/** On a unix socket: what listens on addresses is the same. */
async function serve(options: Partial<PageServerOptions> = {}): Promise<void> {
  server = new PageServer({
    pageListen: { path: join(folder, "page.sock") },
    pageTokenFile: undefined,
    facts: daemon.facts,
    actions: daemon.actions,
    logger: silentLogger,
    ...options,
  });
  await server.start();
}

async function tokenFile(text = TOKEN, mode = 0o600): Promise<string> {
  const path = join(folder, "token");
  await writeFile(path, text);
  await chmod(path, mode);
  return path;
}

interface Asked {
  status: number;
  headers: IncomingMessage["headers"];
  body: string;
}

interface Question {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
  port?: number;
}

function open(
  path: string,
  { method = "GET", headers = {}, body, port }: Question,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const where =
      port === undefined ? { socketPath: join(folder, "page.sock") } : { host: "127.0.0.1", port };
    const asking = request({ ...where, path, method, headers: { host: "localhost", ...headers } }, resolve);
    asking.once("error", reject).end(body);
  });
}

async function ask(path: string, question: Question = {}): Promise<Asked> {
  const response = await open(path, question);
  let body = "";
  for await (const part of response) body += String(part);
  return { status: response.statusCode ?? 0, headers: response.headers, body };
}

/** The messages of a stream, as they come. */
async function watch(question: Question = {}) {
  const response = await open("/live", question);
  assert.equal(response.statusCode, 200);
  assert.equal(response.headers["content-type"], "text/event-stream");
  const messages: (WholePicture | PictureChange)[] = [];
  let text = "";
  response.on("data", (data) => {
    text += String(data);
    const events = text.split("\n\n");
    text = events.pop() ?? "";
    for (const event of events) {
      const json = /^data: (.*)$/.exec(event)?.[1];
      if (json !== undefined) messages.push(JSON.parse(json) as WholePicture | PictureChange);
    }
  });
  const until = (count: number): Promise<true> =>
    eventually(`${count} messages`, async () => messages.length >= count);
  return { messages, until, close: () => response.destroy() };
}

async function freePort(): Promise<number> {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  listener.close();
  await once(listener, "close");
  return port;
}

function eventually(what: string, holds: () => Promise<boolean>): Promise<true> {
  return waitFor(async () => ((await holds()) ? true : undefined), {
    timeoutMs: TIMEOUT_MS,
    intervalMs: 10,
    what,
  });
}

describe("answers", () => {
  test("say how browsers are to treat them, whatever they are", async () => {
    await serve();
    for (const path of ["/", "/page.js", "/page.css", "/page.svg", "/none", "/instances/fl-none"]) {
      const { headers } = await ask(path);
      const policy = String(headers["content-security-policy"]);
      assert.match(policy, /default-src 'none'; script-src 'self'; style-src 'self';/);
      assert.doesNotMatch(policy, /unsafe|https?:|\*/);
      assert.match(policy, /frame-ancestors 'none'.*require-trusted-types-for 'script'/);
      assert.equal(headers["x-content-type-options"], "nosniff");
      assert.equal(headers["x-frame-options"], "DENY");
      assert.equal(headers["cross-origin-resource-policy"], "same-origin");
      assert.equal(headers["cross-origin-opener-policy"], "same-origin");
      assert.equal(headers["referrer-policy"], "same-origin");
      assert.equal(headers["cache-control"], "no-store");
    }
  });

  test("are the page and what belongs to it, and nothing from elsewhere", async () => {
    await serve();
    const { status, body } = await ask("/");
    assert.equal(status, 200);
    assert.doesNotMatch(body, /https?:|<style|style=|onload=|<script(?! type="module" src="page.js"><)/);
    for (const [path, type] of [
      ["/page.js", "text/javascript; charset=utf-8"],
      ["/page.css", "text/css; charset=utf-8"],
      ["/page.svg", "image/svg+xml"],
    ] as const) {
      const file = await ask(path);
      assert.deepEqual([file.status, file.headers["content-type"]], [200, type]);
      assert.doesNotMatch(file.body.replaceAll("http://www.w3.org/", ""), /\burl\(|@import|https?:\/\//);
    }
    assert.equal((await ask("/", { method: "HEAD" })).body, "");
    assert.equal((await ask("/../package.json")).status, 404);
    assert.equal((await ask("/instances/..%2f..%2fetc")).status, 404);
  });

  test("are for who comes by this host's own name, and from no other site", async () => {
    await serve();
    const from = (headers: Record<string, string>, method = "GET"): Promise<number> =>
      ask("/", { headers, method }).then(({ status }) => status);
    for (const host of ["localhost:8080", "127.0.0.1", "[::1]:9465", "192.0.2.1:80"])
      assert.equal(await from({ host }), 200, host);
    for (const host of ["rebound.example", "localhost.example", "127.0.0.1.example"])
      assert.equal(await from({ host }), 421, host);
    assert.equal(await from({ origin: "http://other.example" }), 403);
    assert.equal(await from({ origin: "null" }), 403);
    assert.equal(await from({ origin: "http://localhost" }), 200);
    assert.equal(await from({ "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors" }), 403);
    // Somebody follows a link from a chat.
    const link = { "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };
    assert.equal(await from({ "sec-fetch-site": "cross-site", ...link }), 200);
    assert.equal(await from({ "sec-fetch-site": "cross-site", ...link }, "POST"), 403);
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) assert.equal(await from({}, method), 405);
  });

  test("have bounds: of a request's head, of a form, of time", async () => {
    await serve({ pageTokenFile: await tokenFile() });
    assert.equal((await ask("/", { headers: { "x-much": "x".repeat(16_000) } })).status, 431);
    const form = { method: "POST", body: `token=${"x".repeat(8_000)}` };
    assert.equal((await ask("/login", form)).status, 413);
    const socket = createConnection(join(folder, "page.sock"));
    socket.end("NONSENSE\r\n\r\n");
    let said = "";
    for await (const part of socket) said += String(part);
    assert.match(said, /^HTTP\/1.1 400 /);
  });
});

describe("the token", () => {
  test("guards all but the login's looks", async () => {
    await serve({ pageTokenFile: await tokenFile(` ${TOKEN}\n`) });
    for (const path of ["/live", "/page.js", "/instances/fl-1", "/instances/fl-1/console", "/none"])
      assert.equal((await ask(path)).status, 401, path);
    const { status, body } = await ask("/");
    assert.equal(status, 401);
    assert.match(body, /type="password"/);
    assert.doesNotMatch(body, /page\.js/);
    assert.equal((await ask("/page.css")).status, 200);
    assert.equal((await ask("/page.js", { headers: { authorization: `Bearer ${TOKEN}` } })).status, 200);
    assert.equal(
      (await ask("/page.js", { headers: { authorization: "Bearer wrong-and-as-long" } })).status,
      401,
    );
    assert.equal(daemon.looks(), 0);
  });

  test("opens a session that nobody else can make, and that ends", async () => {
    await serve({ pageTokenFile: await tokenFile() });
    const shown = await ask("/login", { method: "POST", body: `token=${TOKEN}` });
    assert.deepEqual([shown.status, shown.headers.location], [303, "/"]);
    const cookie = shown.headers["set-cookie"]?.[0] ?? "";
    assert.match(cookie, /^fleetingd-page=\d+\.[\w-]+; Path=\/; HttpOnly; SameSite=Strict; Max-Age=43200$/);
    assert.ok(!cookie.includes(TOKEN));
    const session = cookie.split(";", 1)[0] ?? "";
    const admits = async (value: string): Promise<boolean> =>
      (await ask("/", { headers: { cookie: value } })).status === 200;
    assert.ok(await admits(`other=1; ${session}`));
    assert.ok(!(await admits(session.replace(/=\d/, "=9"))), "another end");
    assert.ok(!(await admits(`${session.slice(0, -2)}xx`)), "another signature");
    assert.ok(!(await admits("fleetingd-page=")));
    const out = await ask("/logout", { method: "POST", headers: { cookie: session } });
    assert.match(out.headers["set-cookie"]?.[0] ?? "", /^fleetingd-page=; .*Max-Age=0$/);
    // Another token ends all sessions.
    await server?.close();
    await serve({ pageTokenFile: await tokenFile("another-token-of-mine") });
    assert.ok(!(await admits(session)));
  });

  test("can't be guessed: after many wrong ones the rest is refused unseen", async () => {
    await serve({ pageTokenFile: await tokenFile() });
    const wrong = await ask("/login", { method: "POST", body: "token=wrong" });
    assert.equal(wrong.status, 401);
    assert.match(wrong.body, /role="alert" class="refused">/);
    for (let n = 0; n < 29; n++) await ask("/", { headers: { authorization: "Bearer wrong" } });
    assert.equal((await ask("/login", { method: "POST", body: `token=${TOKEN}` })).status, 429);
  });

  test("must be long, and for nobody else to read", async () => {
    const starting = async (text: string, mode = 0o600): Promise<void> =>
      serve({ pageTokenFile: await tokenFile(text, mode) });
    await assert.rejects(starting("short"), {
      code: "INVALID_CONFIG",
      message: /not 16 printable characters/,
    });
    await assert.rejects(starting(TOKEN, 0o644), { code: "INVALID_CONFIG", hint: /chmod 600/ });
    await assert.rejects(serve({ pageTokenFile: join(folder, "none") }), { code: "INVALID_CONFIG" });
  });
});

describe("actions", () => {
  const OWN = { "content-type": "application/json", "x-fleetingd-page": "1" };
  const act = (action: unknown, headers: Record<string, string>): Promise<Asked> =>
    ask("/actions", { method: "POST", headers: { ...OWN, ...headers }, body: JSON.stringify(action) });
  const logIn = async (): Promise<{ cookie: string }> => {
    const { headers } = await ask("/login", { method: "POST", body: `token=${TOKEN}` });
    return { cookie: headers["set-cookie"]?.[0]?.split(";", 1)[0] ?? "" };
  };
  const accessFor = async (headers: Record<string, string>): Promise<unknown> => {
    const response = await open("/live", { headers });
    const [data] = (await once(response, "data")) as [Buffer];
    response.destroy();
    return JSON.parse(/^event: access\ndata: (.*)$/m.exec(String(data))?.[1] ?? "null");
  };

  test("are nobody's where no token is configured, root's socket included", async () => {
    await serve();
    const { status, body } = await act({ action: "drain" }, {});
    assert.deepEqual(
      [status, body],
      [403, "Nothing can be changed here, because no token is configured (page_token_file).\n"],
    );
    assert.deepEqual(await accessFor({}), { consoles: true, actions: false, session: false });
    assert.deepEqual(daemon.asked, []);
  });

  test("are for who has shown the token, and answered in a sentence", async () => {
    await serve({ pageTokenFile: await tokenFile() });
    const session = await logIn();
    assert.deepEqual(await accessFor(session), { consoles: true, actions: true, session: true });
    const [vm] = daemon.status.instances;
    for (const [action, sentence] of [
      [{ action: "drain" }, /^No more VMs are made/],
      [{ action: "undo-drain" }, /^VMs are made again/],
      [{ action: "prebuild", pool: "ci" }, /^A new golden image of ci is being made/],
      [{ action: "remove", instance: vm?.id }, /^fl-\w+ is being removed/],
    ] as const) {
      const { status, body } = await act(action, session);
      assert.equal(status, 200, body);
      assert.match(body, sentence);
    }
    assert.deepEqual(daemon.asked, ["drain", "undo drain", "prebuild ci", `remove ${vm?.id}`]);
    const none = await act({ action: "remove", instance: "fl-none" }, session);
    assert.deepEqual([none.status, none.body], [404, "there is no instance fl-none. Look again.\n"]);
    // A program's way; nothing of a browser's is in it.
    assert.equal((await act({ action: "drain" }, { authorization: `Bearer ${TOKEN}` })).status, 200);
  });

  test("are refused to whoever else sends them, in their owner's name too", async () => {
    await serve({ pageTokenFile: await tokenFile() });
    const session = await logIn();
    const drain = { action: "drain" };
    assert.equal((await act(drain, {})).status, 401);
    assert.equal((await act(drain, { authorization: "Bearer wrong-and-as-long" })).status, 401);
    // Another port of this host is the same site, to which the cookie is sent.
    for (const from of [
      { origin: "http://localhost:8080" },
      { origin: "http://other.example" },
      { origin: "null" },
      { "sec-fetch-site": "same-site" },
      { "sec-fetch-site": "cross-site" },
      { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" },
    ] as Record<string, string>[])
      assert.equal((await act(drain, { ...session, ...from })).status, 403, JSON.stringify(from));
    const form = { method: "POST", body: JSON.stringify(drain) };
    const { status, body } = await ask("/actions", { ...form, headers: session });
    assert.deepEqual([status, body], [403, "Nothing is changed without the header x-fleetingd-page.\n"]);
    assert.equal(
      (await ask("/actions", { ...form, method: "PUT", headers: { ...OWN, ...session } })).status,
      405,
    );
    assert.equal((await ask("/actions", { headers: { ...OWN, ...session } })).status, 404);
    assert.deepEqual(daemon.asked, []);
  });

  test("are few, short, and so many at a time", async () => {
    let release = (): void => undefined;
    let begun = 0;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const prebuild = (): Promise<void> => {
      begun += 1;
      return released;
    };
    await serve({ pageTokenFile: await tokenFile(), actions: { ...daemon.actions, prebuild } });
    const session = await logIn();
    for (const odd of [
      null,
      {},
      { action: "purge" },
      { action: "prebuild" },
      { action: "prebuild", pool: "" },
      { action: "drain", pool: "ci" },
      { action: "remove", instance: ["fl-1"] },
    ])
      assert.equal((await act(odd, session)).status, 400, JSON.stringify(odd));
    const form = { method: "POST", headers: { ...OWN, ...session } };
    assert.equal((await ask("/actions", { ...form, body: "drain=1" })).status, 400);
    assert.equal((await ask("/actions", { ...form, body: "x".repeat(8_000) })).status, 413);
    const waiting = Array.from({ length: 4 }, () => act({ action: "prebuild", pool: "ci" }, session));
    await eventually("all of them", async () => begun === 4);
    assert.equal((await act({ action: "drain" }, session)).status, 503);
    release();
    for (const { status } of await Promise.all(waiting)) assert.equal(status, 200);
    assert.equal((await act({ action: "undo-drain" }, session)).status, 200);
    assert.deepEqual(daemon.asked, ["undo drain"]);
  });
});

describe("the stream", () => {
  test("begins with all there is, goes on with what differs, and nothing is done when nobody looks", async () => {
    await serve();
    assert.equal(daemon.looks(), 0);
    const { messages, until, close } = await watch();
    await until(1);
    const [first] = messages;
    assert.ok(first?.kind === "all");
    assert.deepEqual(
      first.instances.map(({ id }) => id),
      daemon.status.instances.map(({ id }) => id),
    );
    const gone = daemon.status.instances.shift();
    const [changed] = daemon.status.instances;
    if (changed !== undefined) changed.lastError = "it is odd\nits console ended with:\nsecret of a job";
    for (const one of daemon.status.instances) one.ageSeconds += 1;
    tellStart(daemon, changed?.id ?? "", 2);
    await eventually("the change", async () => messages.some((one) => "gone" in one && one.gone.length > 0));
    const change = messages.find((one) => "gone" in one && one.gone.length > 0) as PictureChange;
    assert.deepEqual(change.gone, [gone?.id]);
    // An age alone is no change, and a VM's console is for fewer people than errors are.
    assert.deepEqual(
      change.instances.map(({ id, lastError }) => [id, lastError]),
      [[changed?.id, "it is odd …"]],
    );
    assert.deepEqual(
      change.starts.map(({ seconds }) => seconds),
      [2],
    );
    assert.equal(change.distributions?.creation[0]?.count, 1);
    assert.equal(change.pools, undefined);
    assert.ok(!JSON.stringify(messages).includes("secret of a job"));
    close();
    const looks = daemon.looks();
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    assert.ok(daemon.looks() <= looks + 1);
  });

  test("is one look for all", async () => {
    await serve();
    const viewers = await Promise.all(Array.from({ length: 8 }, () => watch()));
    await Promise.all(viewers.map(({ until }) => until(3)));
    // One at first, and one for each change.
    const most = Math.max(...viewers.map(({ messages }) => messages.length));
    assert.ok(daemon.looks() <= most + 1, `${daemon.looks()} looks for ${most} messages`);
    const last = await watch();
    await last.until(1);
    assert.equal(last.messages[0]?.kind, "all");
    for (const { close } of [...viewers, last]) close();
  });

  test("is one whole picture and then changes, however large; whoever is slow misses some and is told all again", async () => {
    daemon = madeUpDaemon(2_000);
    await serve();
    const slow = await open("/live", {});
    const quick = await watch();
    await quick.until(4);
    assert.deepEqual(quick.messages.map(({ kind }) => kind).slice(0, 4), [
      "all",
      "change",
      "change",
      "change",
    ]);
    quick.close();
    const gone = daemon.status.instances.splice(0, 1_999);
    const looks = daemon.looks();
    await eventually("looks that see it", async () => daemon.looks() >= looks + 2);
    let text = "";
    slow.on("data", (data) => (text += String(data)));
    await eventually("a picture without what is gone", async () => {
      const wholes = text
        .split("\n\n")
        .filter((event) => event.startsWith('data: {"at"') && event.includes('"kind":"all"'));
      return wholes.length === 2 && wholes[1]?.includes(gone[0]?.id ?? "") === false;
    });
    slow.destroy();
  });

  test("has room for so many", async () => {
    await serve();
    const viewers = await Promise.all(Array.from({ length: 24 }, () => watch()));
    const { status, headers } = await ask("/live");
    assert.deepEqual([status, headers["retry-after"]], [503, "10"]);
    for (const { close } of viewers) close();
    await eventually("room", async () => (await ask("/live", { method: "HEAD" })).status === 200);
  });
});

describe("consoles", () => {
  const consoleOf = async (id: string): Promise<string> => {
    const path = join(folder, `${id}.log`);
    await writeFile(path, "it boots\u001b[1m\n");
    daemon.consoles.set(id, path);
    return path;
  };

  test("are streamed as text, from the unix socket", async () => {
    await serve();
    const path = await consoleOf("fl-1");
    const response = await open("/instances/fl-1/console", {});
    assert.equal(response.headers["content-type"], "text/plain; charset=utf-8");
    let text = "";
    response.on("data", (data) => (text += String(data)));
    await eventually("its beginning", async () => text === "it boots\n");
    await appendFile(path, "and goes on\u0007");
    await eventually("what follows", async () => text === "it boots\nand goes on");
    await rm(path);
    await new Promise((resolve) => response.once("end", resolve));
    assert.equal((await ask("/instances/fl-1/console")).status, 404);
    assert.equal((await ask("/instances/fl-2/console")).status, 404);
  });

  test("are not for whoever is on this host, unless there is a token", async () => {
    await serve();
    await consoleOf("fl-1");
    const port = await freePort();
    await server?.serveAlso({ host: "127.0.0.1", port });
    assert.equal((await ask("/instances/fl-1/console", { port })).status, 403);
    assert.equal((await ask("/", { port })).status, 200);
    await server?.close();
    await serve({ pageTokenFile: await tokenFile() });
    await server?.serveAlso({ host: "127.0.0.1", port });
    assert.equal((await ask("/instances/fl-1/console", { port })).status, 401);
    const headers = { authorization: `Bearer ${TOKEN}` };
    assert.equal((await ask("/instances/fl-1/console", { port, headers, method: "HEAD" })).status, 200);
  });
});

describe("the place", () => {
  test("is a socket that only this user may use, taken over from a server that was killed", async () => {
    await serve();
    assert.equal((await stat(join(folder, "page.sock"))).mode & 0o777, 0o600);
    const first = server;
    await assert.rejects(serve(), { code: "ALREADY_EXISTS" });
    server = first;
  });

  test("that is taken is an error where it is configured, and only a warning where a runner names it", async () => {
    const warnings: string[] = [];
    const logger = { ...silentLogger, warn: (message: string) => void warnings.push(message) };
    await serve({ logger });
    const port = await freePort();
    const listen = { host: "127.0.0.1", port };
    await Promise.all([server?.serveAlso(listen), server?.serveAlso(listen)]);
    assert.deepEqual(warnings, []);
    const other = new PageServer({
      pageListen: listen,
      pageTokenFile: undefined,
      facts: daemon.facts,
      actions: daemon.actions,
      logger,
    });
    await assert.rejects(other.start(), { code: "UNAVAILABLE", hint: /page_listen/ });
    await other.serveAlso(listen);
    assert.match(warnings.join(), /debug_server_addr/);
    await other.close();
  });
});
