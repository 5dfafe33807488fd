import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { FALLBACK_RESOLVERS, hostResolvers, parseResolvConf } from "../../../src/network/resolvers.ts";

test("parseResolvConf keeps IPv4 servers that a VM can reach, in order, each once, at most three", () => {
  const text = `# nameserver 192.0.2.99
; nameserver 192.0.2.98
search example.org
nameserver 127.0.0.53
nameserver 127.0.0.1
nameserver ::1
nameserver fe80::1%eth0
nameserver 0.0.0.0
nameserver\t192.0.2.53
nameserver 192.0.2.54 # the other
nameserver 192.0.2.53
nameserver not-an-address
nameserver 192.0.2.55
nameserver 192.0.2.56
options edns0 trust-ad
`;
  assert.deepEqual(parseResolvConf(text), ["192.0.2.53", "192.0.2.54", "192.0.2.55"]);
  assert.deepEqual(parseResolvConf(""), []);
});

test("hostResolvers looks behind a loopback stub, and falls back when nothing is left", async (context) => {
  const folder = await mkdtemp(join(tmpdir(), "resolvers-"));
  context.after(() => rm(folder, { recursive: true }));
  const [stub, real, absent] = ["stub", "real", "absent"].map((name) => join(folder, name));
  assert.ok(stub !== undefined && real !== undefined && absent !== undefined);
  await writeFile(stub, "nameserver 127.0.0.53\n");
  await writeFile(real, "nameserver 192.0.2.53\n");
  assert.deepEqual(await hostResolvers([stub, absent, real]), { servers: ["192.0.2.53"], source: real });
  assert.deepEqual(await hostResolvers([stub, absent]), {
    servers: [...FALLBACK_RESOLVERS],
    source: "fallback",
  });
});
