import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ConnectorConfig } from "../../../src/gen/fleeting.ts";
import type { ConnectInfoReply } from "../../../src/gen/fleetingd.ts";
import { connectInfo } from "../../../src/plugin/connector.ts";

const SECOND = 1_000_000_000n;
const REPLY: ConnectInfoReply = {
  os: "linux",
  arch: "arm64",
  protocol: "ssh",
  username: "ubuntu",
  password: "",
  key: Buffer.from("the instance's key"),
  externalAddress: "192.0.2.7",
  internalAddress: "172.16.120.2",
  port: 22,
  expires: 0n,
};
const UNSET: ConnectorConfig = {
  os: "",
  arch: "",
  protocol: "",
  username: "",
  password: "",
  key: Buffer.alloc(0),
  useStaticCredentials: false,
  keepalive: 0n,
  timeout: 0n,
  protocolPort: 0n,
};

describe("ConnectInfo", () => {
  test("without settings the daemon's knowledge and our times are the answer", () => {
    const expected = {
      connector: {
        os: "linux",
        arch: "arm64",
        protocol: "ssh",
        username: "ubuntu",
        password: "",
        key: REPLY.key,
        useStaticCredentials: false,
        keepalive: 10n * SECOND,
        timeout: 60n * SECOND,
        protocolPort: 22n,
      },
      ExternalAddr: "192.0.2.7",
      InternalAddr: "172.16.120.2",
      expires: 0n,
    };
    assert.deepEqual(connectInfo(REPLY, undefined), expected);
    assert.deepEqual(connectInfo(REPLY, UNSET), expected);
  });

  test("what [connector_config] sets wins, but the key stays the instance's", () => {
    const settings: ConnectorConfig = {
      ...UNSET,
      os: "windows",
      arch: "amd64",
      protocol: "winrm",
      username: "admin",
      password: "not used",
      key: Buffer.from("not used"),
      keepalive: 30n * SECOND,
      timeout: 600n * SECOND,
      protocolPort: 5985n,
    };
    const { connector } = connectInfo(REPLY, settings);
    assert.deepEqual(connector, { ...settings, password: "", key: REPLY.key });
  });

  test("with use_static_credentials the runner's credentials are used, and only those", () => {
    const settings = { ...UNSET, useStaticCredentials: true, username: "ci", password: "secret" };
    const { connector } = connectInfo(REPLY, settings);
    assert.equal(connector?.username, "ci");
    assert.equal(connector?.password, "secret");
    assert.equal(connector?.key.length, 0);
    assert.equal(connector?.useStaticCredentials, true);
  });

  test("both addresses are set when only one is known", () => {
    for (const one of [{ externalAddress: "" }, { internalAddress: "" }]) {
      const { ExternalAddr, InternalAddr } = connectInfo({ ...REPLY, ...one }, undefined);
      assert.equal(ExternalAddr, InternalAddr);
      assert.notEqual(ExternalAddr, "");
    }
  });

  test("a port other than 22 is in the addresses too, for hosts that know no protocol_port", () => {
    const v6 = { ...REPLY, port: 2222, internalAddress: "fd00::2" };
    const { connector, ExternalAddr, InternalAddr } = connectInfo(v6, undefined);
    assert.deepEqual(
      [connector?.protocolPort, ExternalAddr, InternalAddr],
      [2222n, "192.0.2.7:2222", "[fd00::2]:2222"],
    );
    assert.equal(connectInfo({ ...v6, port: 22 }, undefined).InternalAddr, "fd00::2");
    assert.equal(connectInfo({ ...v6, port: 0 }, undefined).connector?.protocolPort, 22n);
  });
});
