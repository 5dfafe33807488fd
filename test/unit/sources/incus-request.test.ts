/** What Incus is asked for: VMs and clusters too, which no test server has. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parse } from "yaml";
import { readSource } from "../../../src/config/source-keys.ts";
import { silentLogger } from "../../../src/log.ts";
import { addressOf } from "../../../src/sources/incus/answers.ts";
import type { IncusConfig } from "../../../src/sources/incus/config.ts";
import { createFailure, OperationError } from "../../../src/sources/incus/errors.ts";
import { openIncus } from "../../../src/sources/incus/incus.ts";
import { fingerprintOf, instanceRequest, ownerFilter } from "../../../src/sources/incus/request.ts";

const KEY = "ssh-ed25519 AAAAC3Nza fleetingd";
const OWNER = { daemon: "d-1", pool: "ci" };
const MACHINE = { id: "fl-bcdfghjkmnpq", owner: OWNER, authorizedKey: KEY };

function configOf(keys: Record<string, unknown>): IncusConfig {
  const read = readSource({ type: "incus", image: "ci-image", ...keys });
  assert.ok("source" in read && read.source.type === "incus", JSON.stringify(read));
  return read.source;
}

describe("Incus's request", () => {
  const request = (keys: Record<string, unknown>, more = {}, disk?: Record<string, string>) =>
    instanceRequest(configOf(keys), { ...MACHINE, ...more }, disk) as Record<string, unknown> & {
      config: Record<string, string>;
    };

  test("is a VM unless a container is asked for, started at once and gone when it stops", () => {
    const body = request({ size: "c2-m4" });
    const { name, type, ephemeral, start, profiles, source, config, ...rest } = body;
    assert.deepEqual(rest, {}, "the profiles' disk and network are left as they are");
    assert.deepEqual([name, type, ephemeral, start], ["fl-bcdfghjkmnpq", "virtual-machine", true, true]);
    assert.deepEqual([profiles, source], [["default"], { type: "image", alias: "ci-image" }]);
    assert.deepEqual([config["limits.cpu"], config["limits.memory"]], ["2", "4096MiB"]);
    assert.equal(request({ instance_type: "container" })["type"], "container");
  });

  test("carries whose it is, whatever else the configuration says", () => {
    const { config } = request({
      config: { "security.nesting": "true", "user.fleetingd.daemon": "somebody", "limits.cpu": "7" },
    });
    assert.equal(config["user.fleetingd.daemon"], "d-1");
    assert.equal(config["user.fleetingd.pool"], "ci");
    assert.equal(config["user.fleetingd.instance"], "fl-bcdfghjkmnpq");
    assert.deepEqual([config["security.nesting"], config["limits.cpu"]], ["true", "7"]);
    assert.equal(
      ownerFilter(OWNER, MACHINE.id),
      "config.user.fleetingd.daemon eq d-1 and config.user.fleetingd.pool eq ci and config.user.fleetingd.instance eq fl-bcdfghjkmnpq",
    );
  });

  test("gives the key to root, or to a user who may become root; to nobody where the image has one", () => {
    const dataOf = (keys: Record<string, unknown>, more = {}) => {
      const { config } = request(keys, more);
      assert.equal(config["user.user-data"], config["cloud-init.user-data"]);
      return config["cloud-init.user-data"];
    };
    assert.deepEqual(parse(dataOf({}) ?? ""), { disable_root: false, ssh_authorized_keys: [KEY] });
    const { users } = parse(dataOf({ username: "ci" }) ?? "") as { users: unknown[] };
    assert.deepEqual(users[0], "default");
    assert.deepEqual((users[1] as Record<string, unknown>)["ssh_authorized_keys"], [KEY]);
    assert.equal(dataOf({ ssh_key_path: "/etc/k" }, { authorizedKey: undefined }), undefined);
  });

  test("names images by alias, by fingerprint, and of linuxcontainers.org", () => {
    const sourceOf = (image: string) => request({ image })["source"];
    assert.deepEqual(sourceOf("0123456789ab"), { type: "image", fingerprint: "0123456789ab" });
    assert.deepEqual(sourceOf("images:debian/12/cloud"), {
      type: "image",
      mode: "pull",
      protocol: "simplestreams",
      server: "https://images.linuxcontainers.org",
      alias: "debian/12/cloud",
    });
  });

  test("has a root disk of its own size, and a name as the template says", () => {
    const disk = { type: "disk", path: "/", pool: "fast", size: "20GiB" };
    const body = request({ name_template: "ci-$random-x", disk_size: "20GiB" }, {}, disk);
    assert.deepEqual(body["devices"], { root: disk });
    assert.equal(body["name"], "ci-fl-bcdfghjkmnpq-x");
  });

  test("has another fingerprint only where instances would be others", () => {
    const fingerprint = (keys: Record<string, unknown>) => fingerprintOf(configOf(keys));
    assert.equal(fingerprint({}), fingerprint({ max_instances: 3, poll_interval: "1m", target: "@ci" }));
    for (const keys of [{ image: "other" }, { size: "c4-m4" }, { username: "ci" }, { profiles: ["x"] }])
      assert.notEqual(fingerprint({}), fingerprint(keys));
  });
});

describe("Incus's answers", () => {
  test("the address is global, of the first interface or of the one that is named, and rather IPv4", () => {
    const of = (address: string, family = "inet", scope = "global") => ({ family, address, scope });
    const network = {
      lo: { addresses: [of("127.0.0.1", "inet", "local")] },
      enp5s0: { addresses: [of("fe80::1", "inet6", "link"), of("fd00::1", "inet6"), of("10.0.0.2")] },
      docker0: { addresses: [of("172.17.0.1")] },
      wg0: { addresses: [of("10.9.0.1")] },
    };
    const state = { status: "Running", network };
    assert.equal(addressOf(state, undefined), "10.0.0.2");
    assert.equal(addressOf(state, "wg0"), "10.9.0.1");
    assert.equal(addressOf(state, "eth7"), undefined);
    assert.equal(addressOf({ status: "Running", network: null }, undefined), undefined);
  });

  test("what failed is told with what to do: much of it only shows in the text", () => {
    const meaning = (text: string) => {
      const failure = createFailure(new OperationError(text), { server: "incus", id: "x", project: "ci" });
      return (failure as { code: string }).code;
    };
    assert.equal(meaning('Reached maximum number of instances in project "ci"'), "EXHAUSTED");
    assert.equal(meaning("Failed creating instance: Image not found"), "INVALID_CONFIG");
    assert.equal(meaning("Failed to run: forklimits: exit status 1"), "HYPERVISOR_FAILED");
  });
});

test("a cluster's member and the project stand in the query, and the local socket is spoken to without a certificate", async () => {
  const directory = await mkdtemp(join(tmpdir(), "incus-socket-"));
  const socketPath = join(directory, "unix.socket");
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    request.resume();
    response.writeHead(400, { "content-type": "application/json" });
    response.end('{"type":"error","error":"Failed: no such member","error_code":400}');
  });
  await new Promise<void>((listening) => server.listen(socketPath, listening));
  const config = configOf({ socket: socketPath, project: "ci", target: "@gpu" });
  const cloud = await openIncus(config, silentLogger);
  try {
    const signal = AbortSignal.timeout(10_000);
    const made = cloud.create({ ...MACHINE, signal, save: async () => undefined, phase: () => undefined });
    await assert.rejects(made, { code: "INVALID_CONFIG", message: /no such member/ });
    assert.ok(asked.includes("POST /1.0/instances?target=%40gpu&project=ci"), asked.join("\n"));
    assert.equal(cloud.description, `the Incus server ${socketPath}`);
  } finally {
    await cloud.close?.();
    server.closeAllConnections();
    server.close();
    await rm(directory, { recursive: true });
  }
});
