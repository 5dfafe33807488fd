import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { status as Status } from "@grpc/grpc-js";
import { FleetingdError } from "../../../src/errors.ts";
import type { ConnectorConfig } from "../../../src/gen/fleeting.ts";
import { backoffMs } from "../../../src/plugin/backoff.ts";
import { pluginPath } from "../../../src/plugin/bootstrap.ts";
import { DEFAULT_SOCKET, daemonSocket, withRunnersLogin } from "../../../src/plugin/plugin-config.ts";
import { StatusError } from "../../../src/plugin/status-error.ts";

describe("the daemon's socket", () => {
  test("plugin_config, then the environment, then the usual place", () => {
    const env = { FLEETINGD_SOCKET: "/env.sock" };
    assert.equal(daemonSocket('{"socket":"/config.sock"}', env), "/config.sock");
    assert.equal(daemonSocket('{"pool":"x"}', env), "/env.sock");
    assert.equal(daemonSocket("{}", {}), DEFAULT_SOCKET);
    assert.equal(daemonSocket("{}", { FLEETINGD_SOCKET: "" }), DEFAULT_SOCKET);
  });

  test("no configuration at all is allowed", () => {
    assert.equal(daemonSocket("null", {}), DEFAULT_SOCKET);
    assert.equal(daemonSocket("", {}), DEFAULT_SOCKET);
  });

  for (const [config, sentence] of [
    ["{", /not valid JSON/],
    ["[]", /must be a table/],
    ['"text"', /must be a table/],
    ['{"socket":"relative.sock"}', /absolute path.*"relative\.sock"/],
    ['{"socket":17}', /absolute path.*17/],
    ['{"socket":""}', /absolute path/],
  ] as const) {
    test(`${config} is refused`, () => {
      assert.throws(
        () => daemonSocket(config, {}),
        (error) =>
          error instanceof StatusError &&
          error.code === Status.INVALID_ARGUMENT &&
          sentence.test(error.message),
      );
    });
  }
});

describe("the runner's own credentials", () => {
  const VCD = { virtual_datacenter: "ci" };
  const SETTINGS: ConnectorConfig = {
    os: "",
    arch: "",
    protocol: "",
    username: "root",
    password: "pw",
    key: Buffer.from("pem"),
    useStaticCredentials: true,
    keepalive: 0n,
    timeout: 0n,
    protocolPort: 0n,
  };
  const own = (config: unknown, more: Partial<ConnectorConfig> = {}): unknown =>
    JSON.parse(withRunnersLogin(JSON.stringify(config), { ...SETTINGS, ...more }));

  test("are what VMware Cloud Director's machines are given, unless plugin_config says others", () => {
    assert.deepEqual(own(VCD), { ...VCD, admin_password: "pw", ssh_key: "pem" });
    assert.deepEqual(own(VCD, { key: Buffer.alloc(0) }), { ...VCD, admin_password: "pw" });
    assert.deepEqual(own(VCD, { password: "" }), { ...VCD, ssh_key: "pem" });
    for (const said of [
      { admin_password: "x", ssh_key: "y" },
      { admin_password_file: "/x", ssh_key_path: "/y" },
    ])
      assert.deepEqual(own({ ...VCD, ...said }), { ...VCD, ...said });
  });

  test("stay with the runner elsewhere, and where it does not use them", () => {
    assert.deepEqual(own(VCD, { useStaticCredentials: false }), VCD);
    for (const config of [{}, { pool: "ci" }, null]) assert.deepEqual(own(config), config);
    assert.equal(withRunnersLogin("", SETTINGS), "");
    assert.equal(withRunnersLogin("{}", undefined), "{}");
  });

  test("name whose key OpenStack's Ignition is given, where plugin_config does not", () => {
    const told = (config: unknown, username = "ci"): unknown =>
      JSON.parse(withRunnersLogin(JSON.stringify(config), { ...SETTINGS, username }));
    const ignition = { server_spec: {}, use_ignition: true };
    assert.deepEqual(told(ignition), { ...ignition, username: "ci" });
    for (const config of [{ ...ignition, username: "core" }, { server_spec: {} }, {}, null])
      assert.deepEqual(told(config), config);
    assert.deepEqual(told(ignition, ""), ignition);
    assert.equal(withRunnersLogin("", SETTINGS), "");
    assert.equal(withRunnersLogin(JSON.stringify(ignition), undefined), JSON.stringify(ignition));
  });
});

describe("the wait before another attempt", () => {
  test("it doubles up to the limit", () => {
    assert.deepEqual(
      [0, 1, 2, 3, 6, 1000].map((attempt) => backoffMs(attempt, 5_000, 1)),
      [100, 200, 400, 800, 5_000, 5_000],
    );
  });

  test("half of it is random", () => {
    assert.equal(backoffMs(2, 5_000, 0), 200);
    assert.equal(backoffMs(2, 5_000, 0.5), 300);
  });
});

describe("the folder of an installed plugin", () => {
  // The cases of the fleeting library's own test.
  for (const [repository, path] of [
    ["index.docker.io/namespace/project", "index.docker.io/namespace/project"],
    ["registry.gitlab.com/namespace/project", "registry.gitlab.com/namespace/project"],
    ["namespace/no-registry", "registry.gitlab.com/namespace/no-registry"],
    ["long/namespace/no-registry", "registry.gitlab.com/long/namespace/no-registry"],
    ["no-registry-or-namespace", "registry.gitlab.com/gitlab-org/fleeting/plugins/no-registry-or-namespace"],
    ["drop-version:1.0.0", "registry.gitlab.com/gitlab-org/fleeting/plugins/drop-version"],
    ["registry.gitlab.com/drop-version/project:1.2.3", "registry.gitlab.com/drop-version/project"],
    ["registry.gitlab.com:8080/drop-version/project:1.2.3", "registry.gitlab.com:8080/drop-version/project"],
    ["registry.gitlab.com/Group/plugin", "registry.gitlab.com/!group/plugin"],
  ] as const) {
    test(repository, () => assert.equal(pluginPath(repository), path));
  }

  for (const repository of ["", "a//b", "../../etc", "a.b/../c", "/a"]) {
    test(`"${repository}" is none`, () => {
      assert.throws(
        () => pluginPath(repository),
        (error) => error instanceof FleetingdError && error.code === "INVALID_ARGUMENT",
      );
    });
  }
});
