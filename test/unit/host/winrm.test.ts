import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import { askWinRm, waitForWinRm } from "../../../src/host/winrm.ts";
import { createSelfSignedCertificate } from "../../../src/plugin/certificate.ts";

const PATIENCE_MS = 60_000;
const address = "127.0.0.1";

async function listening(server: Server): Promise<{ port: number; close(): Promise<void> }> {
  server.listen(0, address);
  await once(server, "listening");
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { port: (server.address() as AddressInfo).port, close };
}

describe("WinRM", () => {
  test("answers when it asks for a login, with or without TLS", async () => {
    const { certificatePem, privateKeyPem } = await createSelfSignedCertificate();
    const plain = await listening(createServer((_request, response) => response.writeHead(401).end()));
    const secure = await listening(
      createTlsServer({ key: privateKeyPem, cert: certificatePem }, (_request, response) =>
        response.writeHead(405).end(),
      ),
    );
    const signal = AbortSignal.timeout(PATIENCE_MS);
    await askWinRm({ address, port: plain.port, protocol: "winrm" }, signal);
    await askWinRm({ address, port: secure.port, protocol: "winrm+https" }, signal);
    await Promise.all([plain.close(), secure.close()]);
  });

  test("does not when nothing listens, or it is broken; the last reason is told", async () => {
    const broken = await listening(createServer((_request, response) => response.writeHead(503).end()));
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const target = { address, port: broken.port, protocol: "winrm" };
    await assert.rejects(waitForWinRm(target, { timeoutMs: 1, signal }), {
      code: "TIMEOUT",
      message: /^no WinRM at 127\.0\.0\.1:\d+ within 0\.001 s: .*503/,
    });
    await broken.close();
    await assert.rejects(waitForWinRm(target, { timeoutMs: 1, signal }), { message: /refused|broke/ });
    await assert.rejects(waitForWinRm(target, { timeoutMs: PATIENCE_MS, signal: AbortSignal.abort() }));
  });
});
