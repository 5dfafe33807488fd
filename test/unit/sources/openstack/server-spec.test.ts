import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parse } from "yaml";
import { addCloudInitKey } from "../../../../src/cloudinit/user-data.ts";
import { addressOf } from "../../../../src/sources/openstack/addresses.ts";
import type { ServerSpec } from "../../../../src/sources/openstack/config.ts";
import { hasBooted } from "../../../../src/sources/openstack/console.ts";
import { addIgnitionKey } from "../../../../src/sources/openstack/ignition.ts";
import { createRequest, instanceOf } from "../../../../src/sources/openstack/server-spec.ts";

const KEY = "ssh-ed25519 AAAAC3Nza fleetingd";

describe("Nova's request", () => {
  const owner = { daemon: "d-1", pool: "ci" };
  const wanted = { owner, authorizedKey: KEY, username: "core", useIgnition: false, imageId: undefined };
  const request = (spec: ServerSpec, more = {}, id = "fl-bcdfghjkmnpq") =>
    createRequest(spec, { ...wanted, id, ...more }) as { server: Record<string, unknown> } & Record<
      string,
      unknown
    >;

  test("has all that the spec has, where Nova expects it", () => {
    const spec = {
      name: "scaling-runner-%d",
      description: "runners",
      tags: ["CI"],
      imageRef: "i1",
      flavorRef: "f1",
      key_name: "ci-admin",
      networks: [{ uuid: "n1", fixed_ip: "10.0.0.9" }],
      security_groups: ["ssh", { name: "web" }],
      scheduler_hints: { group: "g1" },
      availability_zone: "a",
      metadata: { team: "x" },
      config_drive: true,
      block_device_mapping_v2: [
        { boot_index: -1, uuid: "i1", source_type: "image", destination_type: "volume" },
      ],
    };
    const { server, ...rest } = request(spec, { authorizedKey: undefined });
    assert.match(String(server["name"]), /^scaling-runner-\d+$/);
    const { name, security_groups, scheduler_hints, tags, ...same } = spec;
    assert.deepEqual(server, {
      ...same,
      name: server["name"],
      security_groups: [{ name: "ssh" }, { name: "web" }],
      tags: ["CI", "fleetingd-daemon=d-1", "fleetingd-pool=ci", "fleetingd-instance=fl-bcdfghjkmnpq"],
    });
    assert.deepEqual(rest, { "os:scheduler_hints": { group: "g1" } });
  });

  test("is found again by its tags, each of which Nova accepts", () => {
    const daemon = "123e4567-e89b-12d3-a456-426614174000";
    const { server } = request({}, { owner: { daemon, pool: "p".repeat(32) } });
    const tags = server["tags"] as string[];
    assert.ok(tags.every((tag) => tag.length <= 60 && !/[,/]/.test(tag)));
    assert.equal(instanceOf(tags), "fl-bcdfghjkmnpq");
    assert.equal(instanceOf(["CI"]), undefined);
  });

  test("gives each server a name of its own, the same for the same instance", () => {
    const nameOf = (id: string) => request({ name: "ci-%d" }, {}, id).server["name"];
    assert.equal(nameOf("fl-a"), nameOf("fl-a"));
    assert.notEqual(nameOf("fl-a"), nameOf("fl-b"));
    assert.equal(request({}).server["name"], "fl-bcdfghjkmnpq");
  });

  test("formats a number as Go does, and boots from a disk that says nothing else", () => {
    const nameOf = (name: string) => String(request({ name }).server["name"]);
    assert.match(nameOf("ci-%012d"), /^ci-000\d{9}$/);
    assert.equal(nameOf("%12d"), nameOf("%d").padStart(12));
    assert.equal(nameOf("100%"), "100%");
    const { server } = request({ block_device_mapping_v2: [{ uuid: "i1", source_type: "image" }] });
    assert.deepEqual(server["block_device_mapping_v2"], [
      { boot_index: 0, uuid: "i1", source_type: "image" },
    ]);
  });

  test("has the id of an image that was looked up, and not its name", () => {
    const { server } = request({ image_name: "debian", imageRef: "old" }, { imageId: "new" });
    assert.equal(server["imageRef"], "new");
    assert.equal("image_name" in server, false);
  });

  test("takes user data as text and as base64", () => {
    for (const user_data of [
      "#!/bin/sh\necho hi\n",
      Buffer.from("#!/bin/sh\necho hi\n").toString("base64"),
    ]) {
      const { server } = request({ user_data }, { authorizedKey: undefined });
      assert.equal(Buffer.from(String(server["user_data"]), "base64").toString(), "#!/bin/sh\necho hi\n");
    }
  });
});

describe("a key", () => {
  test("comes to an Ignition configuration, which keeps all else", () => {
    const config = {
      ignition: { version: "3.4.0", config: { merge: [{ source: "https://x" }] } },
      storage: { files: [{ path: "/etc/a", mode: 272 }] },
      passwd: {
        users: [{ name: "core", groups: ["docker"], sshAuthorizedKeys: ["old"] }, { name: "other" }],
      },
    };
    assert.deepEqual(JSON.parse(addIgnitionKey(JSON.stringify(config), "core", KEY)), {
      ...config,
      passwd: {
        users: [{ name: "core", groups: ["docker"], sshAuthorizedKeys: ["old", KEY] }, { name: "other" }],
      },
    });
    const { users } = JSON.parse(addIgnitionKey(JSON.stringify(config), "ci", KEY)).passwd;
    assert.deepEqual(users.at(-1), { name: "ci", sshAuthorizedKeys: [KEY] });
    assert.deepEqual(JSON.parse(addIgnitionKey("", "core", KEY)), {
      ignition: { version: "3.0.0" },
      passwd: { users: [{ name: "core", sshAuthorizedKeys: [KEY] }] },
    });
  });

  test("comes to no other thing than an Ignition configuration of version 3", () => {
    assert.throws(
      () => addIgnitionKey("#cloud-config\n", "core", KEY),
      /user_data is no Ignition configuration: it is no JSON/,
    );
    assert.throws(
      () => addIgnitionKey('{"ignition":{"version":"2.2.0"}}', "core", KEY),
      /version is 2\.2\.0, not 3/,
    );
    assert.throws(() => addIgnitionKey('{"storage":{}}', "core", KEY), /ignition/);
  });

  test("comes to a cloud-config, beside the keys that it has", () => {
    const added = addCloudInitKey(
      "#cloud-config\n# mine\npackages: [git]\nssh_authorized_keys:\n  - old\n",
      KEY,
    );
    assert.ok(added.startsWith("#cloud-config\n"));
    assert.match(added, /# mine/);
    assert.deepEqual(parse(added), { packages: ["git"], ssh_authorized_keys: ["old", KEY] });
    assert.deepEqual(parse(addCloudInitKey("", KEY)), { ssh_authorized_keys: [KEY] });
    assert.deepEqual(parse(addCloudInitKey("#cloud-config\n", KEY)), { ssh_authorized_keys: [KEY] });
  });

  test("comes beside a script, as another part", () => {
    const added = addCloudInitKey("#!/bin/sh\necho hi\n", KEY);
    const [header = "", script = "", config = ""] = added.split(/^--==fleetingd-part==-*$/m);
    assert.match(
      header,
      /^Content-Type: multipart\/mixed; boundary="==fleetingd-part=="\nMIME-Version: 1\.0\n/,
    );
    assert.match(script, /^\nContent-Type: text\/x-shellscript\n\n#!\/bin\/sh\necho hi\n/);
    assert.match(config, /^\nContent-Type: text\/cloud-config\n\n#cloud-config\n/);
    assert.ok(config.includes(KEY));
    const parts = 'Content-Type: multipart/mixed; boundary="b"\n\n--b\n\n#!/bin/sh\n--b--\n';
    assert.ok(addCloudInitKey(parts, KEY).includes(`\n${parts}`));
  });
});

describe("a console", () => {
  test("tells when cloud-init has ended, however much was printed before and after", () => {
    const end = "[   17.2] cloud-init[1095]: Cloud-init v. 23.4.4-0ubuntu0 finished at Thu, 16 May 2024\r\n";
    const noise = "noise\r\n".repeat(5_000);
    assert.equal(
      hasBooted(`${noise}[1] cloud-init[9]: Cloud-init v. 23.4.4 running 'modules:final' at\r\n`, false),
      false,
    );
    assert.equal(hasBooted(`${noise}${end}${noise}`, false), true);
  });

  test("tells by its login prompt when Ignition has", () => {
    const keys = "SSH host key: SHA256:SVjLZ4 (ED25519)\r\neth0: 10.0.0.1\r\n";
    assert.equal(hasBooted("x login: \r\n", true), false);
    assert.equal(hasBooted(keys, true), false);
    assert.equal(hasBooted(`${keys}\r\nrunner-1 login: `, true), true);
  });
});

describe("a server's address", () => {
  const fixed = { addr: "10.0.0.5", version: 4, "OS-EXT-IPS:type": "fixed" };
  const six = { addr: "2001:db8::5", version: 6, "OS-EXT-IPS:type": "fixed" };
  const floating = { addr: "192.0.2.5", version: 4, "OS-EXT-IPS:type": "floating" };
  const server = (addresses: Record<string, (typeof fixed)[]>, accessIPv4 = "") => ({
    ...{ id: "s", name: "ci-1", status: "ACTIVE", tags: [] },
    accessIPv4,
    addresses,
  });

  test("is the one that was meant for it, else a floating one, else IPv4", () => {
    assert.equal(addressOf(server({ b: [six, fixed] }), undefined), "10.0.0.5");
    assert.equal(addressOf(server({ b: [six], a: [fixed, floating] }), undefined), "192.0.2.5");
    assert.equal(addressOf(server({ b: [six] }), undefined), "2001:db8::5");
    assert.equal(addressOf(server({ a: [floating] }, "203.0.113.1"), undefined), "203.0.113.1");
  });

  test("is the same whatever order networks come in, and of the network that is named", () => {
    const other = { ...fixed, addr: "10.9.0.5" };
    assert.equal(addressOf(server({ z: [other], a: [fixed] }), undefined), "10.0.0.5");
    assert.equal(addressOf(server({ z: [other], a: [fixed, floating] }, "203.0.113.1"), "z"), "10.9.0.5");
    assert.throws(
      () => addressOf(server({ a: [fixed] }), "b"),
      /no address in the network "b" \(address_network\); it has some in "a"/,
    );
    assert.throws(() => addressOf(server({}), undefined), /has no address/);
  });
});
