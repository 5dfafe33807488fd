import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseArguments } from "../../../src/plugin/arguments.ts";
import { handshakeLine, readHostRequest } from "../../../src/plugin/protocol.ts";

const COOKIE = { FLEETING_INSTANCE_GROUP_PLUGIN: "4c6410b1-cb78-4962-8c76-ab936d0ea908" };

describe("the handshake", () => {
  test("without the right cookie there is no host", () => {
    assert.equal(readHostRequest({}), undefined);
    assert.equal(readHostRequest({ FLEETING_INSTANCE_GROUP_PLUGIN: "1" }), undefined);
  });

  test("what the host does not set, or sets empty, is undefined", () => {
    const nothing = { socketDirectory: undefined, socketGroup: undefined, clientCertificate: undefined };
    assert.deepEqual(readHostRequest(COOKIE), nothing);
    const empty = { PLUGIN_UNIX_SOCKET_DIR: "", PLUGIN_UNIX_SOCKET_GROUP: "", PLUGIN_CLIENT_CERT: "" };
    assert.deepEqual(readHostRequest({ ...COOKIE, ...empty }), nothing);
  });

  test("what the host sets is read", () => {
    const env = { PLUGIN_UNIX_SOCKET_DIR: "/d", PLUGIN_UNIX_SOCKET_GROUP: "g", PLUGIN_CLIENT_CERT: "pem" };
    assert.deepEqual(readHostRequest({ ...COOKIE, ...env }), {
      socketDirectory: "/d",
      socketGroup: "g",
      clientCertificate: "pem",
    });
  });

  test("the line has six fields, and the certificate no padding", () => {
    assert.equal(handshakeLine("/tmp/p/socket"), "1|0|unix|/tmp/p/socket|grpc|\n");
    assert.equal(handshakeLine("/s", Buffer.from("a")), "1|0|unix|/s|grpc|YQ\n");
  });
});

describe("the plugin's arguments", () => {
  test("serve is the default", () => {
    assert.deepEqual(parseArguments([]), { name: "serve" });
    assert.deepEqual(parseArguments(["serve"]), { name: "serve" });
  });

  test("the version can be asked for in every usual way", () => {
    for (const word of ["version", "--version", "-version"]) {
      assert.deepEqual(parseArguments([word]), { name: "version" });
    }
  });

  test("bootstrap needs a repository", () => {
    assert.deepEqual(parseArguments(["bootstrap", "a/b"]), { name: "bootstrap", repository: "a/b" });
    assert.equal(parseArguments(["bootstrap"]), undefined);
  });

  test("anything else means nothing", () => {
    for (const args of [["sevre"], [""], ["serve", "x"], ["version", "x"], ["bootstrap", "a", "b"]]) {
      assert.equal(parseArguments(args), undefined, args.join(" "));
    }
  });
});
