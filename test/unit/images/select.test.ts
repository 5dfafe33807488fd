import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import { describe, test } from "node:test";
import { FleetingdError } from "../../../src/errors.ts";
import type { BaseImage } from "../../../src/images/image.ts";
import type { ImageSource } from "../../../src/images/image-config.ts";
import {
  type AutoFacts,
  decideAuto,
  ensureBaseImage,
  type ImageMakers,
  probeServer,
} from "../../../src/images/select.ts";
import { createLogger } from "../../../src/log.ts";

const FINE: AutoFacts = { missing: undefined, cached: false, serverProblem: undefined };
const log: string[] = [];
const OPTIONS = {
  diskDirectory: "/disks",
  signal: new AbortController().signal,
  onProgress: () => undefined,
  logger: createLogger({ format: "text", level: "info", write: (line) => log.push(line) }),
};

describe("auto decides", () => {
  test("for Ubuntu where its server answers", () => {
    assert.equal(decideAuto(FINE).type, "ubuntu-cloud");
  });
  test("for packages where it does not", () => {
    assert.deepEqual(decideAuto({ ...FINE, serverProblem: "it is down" }), {
      type: "debian-packages",
      reason: "it is down",
    });
  });
  test("for Ubuntu if one is in the cache, server or not", () => {
    assert.equal(decideAuto({ ...FINE, cached: true, serverProblem: "it is down" }).type, "ubuntu-cloud");
  });
  test("for packages where Ubuntu's images cannot be checked", () => {
    assert.equal(decideAuto({ ...FINE, missing: "no keys", cached: true }).type, "debian-packages");
  });
});

describe("ensureBaseImage", () => {
  async function made(
    source: ImageSource,
    facts: AutoFacts = FINE,
    ubuntuError?: FleetingdError,
  ): Promise<unknown[]> {
    const calls: unknown[] = [];
    const image: BaseImage = {
      name: "an-image",
      diskPath: "/d",
      diskFormat: "raw",
      kernelPath: "/k",
      initrdPath: undefined,
      rootDevice: "/dev/vda",
      kernelArguments: [],
      createdAt: new Date(0),
    };
    const makers: ImageMakers = {
      observe: async () => facts,
      ubuntuCloud: async ({ series, stream }) => {
        calls.push(["ubuntu-cloud", series, stream]);
        if (ubuntuError !== undefined) throw ubuntuError;
        return image;
      },
      debianPackages: async ({ suite, mirrors, packages }) => {
        calls.push(["debian-packages", suite, mirrors, packages]);
        return image;
      },
      files: async ({ disk }) => {
        calls.push(["files", disk]);
        return image;
      },
    };
    assert.equal(await ensureBaseImage(source, OPTIONS, makers), image);
    return calls;
  }
  const AUTO: ImageSource = { type: "auto" };

  test("auto takes the newest LTS release", async () => {
    assert.deepEqual(await made(AUTO), [["ubuntu-cloud", "lts", "release"]]);
  });
  test("auto builds from packages if the server does not answer", async () => {
    const calls = await made(AUTO, { ...FINE, serverProblem: "the server is down" });
    assert.deepEqual(calls, [["debian-packages", undefined, undefined, undefined]]);
    assert.match(log.at(-1) ?? "", /info .*taking debian-packages because the server is down/);
  });
  test("auto builds from packages if the server breaks after it has answered", async () => {
    assert.deepEqual(await made(AUTO, FINE, new FleetingdError("UNAVAILABLE", "broke")), [
      ["ubuntu-cloud", "lts", "release"],
      ["debian-packages", undefined, undefined, undefined],
    ]);
    assert.match(log.at(-1) ?? "", /warn .*could not be fetched.*error="broke"/);
  });
  for (const code of ["VERIFICATION_FAILED", "CANCELLED", "EXHAUSTED"] as const) {
    test(`auto does not make good ${code} by another distribution`, async () => {
      const error = new FleetingdError(code, "no");
      await assert.rejects(made(AUTO, FINE, error), error);
    });
  }
  test("what is named is taken, whatever answers", async () => {
    const down = { ...FINE, serverProblem: "down" };
    const mirrors = ["http://deb.example.org/debian"];
    const packages = { type: "debian-packages", suite: "trixie", mirrors, packages: ["make"] } as const;
    assert.deepEqual(await made(packages, down), [["debian-packages", "trixie", mirrors, ["make"]]]);
    const unavailable = new FleetingdError("UNAVAILABLE", "down");
    const ubuntu = {
      ...({ type: "ubuntu-cloud", series: "noble", stream: "daily", mirrors: undefined } as const),
      ...{ keyring: undefined, caCertificate: undefined },
    };
    await assert.rejects(made(ubuntu, down, unavailable), unavailable);
  });
});

describe("the probe", () => {
  const { signal } = new AbortController();

  async function withServer(server: Server, work: (url: string) => Promise<void>): Promise<void> {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    try {
      await work(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    } finally {
      server.close();
    }
  }

  test("a server that answers", async () => {
    const server = createHttpServer((_, response) => response.end("releases")).on("connection", (socket) =>
      socket.unref(),
    );
    await withServer(server, async (url) => assert.equal(await probeServer(url, signal), undefined));
  });

  test("one that answers with an error, and none at all", async () => {
    const server = createHttpServer((_, response) => response.writeHead(503).end());
    await withServer(server, async (url) => {
      assert.match((await probeServer(url, signal)) ?? "", /answered 503/);
      server.closeAllConnections();
    });
    assert.match((await probeServer("http://127.0.0.1:1", signal)) ?? "", /refused/);
  });

  test("one that takes the connection and says nothing", async () => {
    const server = createServer((socket) => socket.on("error", () => socket.destroy()).unref());
    await withServer(server, async (url) => {
      assert.match((await probeServer(url, signal, 100)) ?? "", /did not answer (within 0\.1 s|in time)/);
    });
  });

  test("cancelled", async () => {
    await assert.rejects(probeServer("http://127.0.0.1:1", AbortSignal.abort()), { code: "CANCELLED" });
  });
});
