import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { FleetingdError } from "../../../../src/errors.ts";
import { findCloud } from "../../../../src/sources/openstack/clouds-yaml.ts";

const CLOUDS = `
clouds:
  runner:
    profile: rented
    auth: {username: ci, project_name: pool, user_domain_name: Users, project_domain_name: Projects}
    region_name: north
  credential:
    auth_type: v3applicationcredential
    auth: {auth_url: "https://keystone.example.org:5000/", application_credential_id: abc, application_credential_secret: hush}
    interface: internal
    verify: false
  old: {auth: {auth_url: "https://keystone.example.org/v2.0", username: ci, password: x, project_name: p}}
  odd: {auth: {auth_url: "https://keystone.example.org", username: ci, password: x, project_name: p}, auth_type: v3kerberos}
  bare: {auth: {auth_url: "https://keystone.example.org", username: ci, password: 12345678, project_id: p1}}
`;

describe("clouds.yaml", () => {
  let directory: string;
  let path: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "clouds-"));
    path = join(directory, "clouds.yaml");
    await writeFile(path, CLOUDS);
    await writeFile(join(directory, "secure.yaml"), "clouds: {runner: {auth: {password: from-secure}}}");
    await writeFile(
      join(directory, "clouds-public.yaml"),
      "public-clouds: {rented: {auth: {auth_url: 'https://rented.example.org/v3'}, region_name: south, cacert: /ca.pem}}",
    );
  });
  after(() => rm(directory, { recursive: true }));

  const find = (cloud: string | undefined, environment = {}, more = {}) =>
    findCloud({ cloud, cloudsConfig: path, authFromEnv: false, ...more }, environment);

  const rejects = (work: Promise<unknown>, pattern: RegExp) =>
    assert.rejects(work, (error) => {
      assert.ok(error instanceof FleetingdError);
      assert.equal(error.code, "INVALID_CONFIG");
      assert.match(`${error.message} ${error.hint ?? ""}`, pattern);
      return true;
    });

  test("is put together with the password of secure.yaml and the profile of clouds-public.yaml", async () => {
    const access = await find("runner");
    assert.equal(access.authUrl, "https://rented.example.org/v3");
    assert.equal(access.region, "north");
    assert.equal(access.authorityPath, "/ca.pem");
    assert.deepEqual(access.auth, {
      identity: {
        methods: ["password"],
        password: { user: { name: "ci", domain: { name: "Users" }, password: "from-secure" } },
      },
      scope: { project: { name: "pool", domain: { name: "Projects" } } },
    });
    assert.deepEqual(access.secrets, ["from-secure"]);
  });

  test("may hold an application credential, which needs no project", async () => {
    const access = await find("credential");
    assert.equal(access.authUrl, "https://keystone.example.org:5000/v3");
    assert.deepEqual(access.auth, {
      identity: {
        methods: ["application_credential"],
        application_credential: { id: "abc", secret: "hush" },
      },
    });
    assert.equal(access.interface, "internal");
    assert.equal(access.insecure, true);
  });

  test("may hold a password that looks like a number, and a project by its id", async () => {
    const { auth } = await find("bare");
    assert.deepEqual(auth, {
      identity: {
        methods: ["password"],
        password: { user: { name: "ci", domain: { id: "default" }, password: "12345678" } },
      },
      scope: { project: { id: "p1" } },
    });
  });

  test("is found by OS_CLIENT_CONFIG_FILE, and the cloud by OS_CLOUD", async () => {
    const access = await find(
      undefined,
      { OS_CLIENT_CONFIG_FILE: path, OS_CLOUD: "bare" },
      { cloudsConfig: undefined },
    );
    assert.equal(access.description, "the OpenStack cloud bare");
  });

  test("says what is wrong with it", async () => {
    await rejects(find("rumner"), /no cloud "rumner" in .*clouds\.yaml.*"runner", "credential"/);
    await rejects(find("old"), /"old" in .*version 2\.0/);
    await rejects(
      find("odd"),
      /auth_type v3kerberos is not supported; use password or v3applicationcredential/,
    );
    const missing = { cloudsConfig: join(directory, "none.yaml") };
    await rejects(find("runner", {}, missing), /there is no .*none\.yaml.*clouds_config/);
    const broken = join(directory, "broken.yaml");
    await writeFile(broken, "clouds: {a: {auth: {password: hush-hush");
    await assert.rejects(find("a", {}, { cloudsConfig: broken }), (error: Error) => {
      assert.match(error.message, /broken\.yaml is no YAML/);
      assert.doesNotMatch(error.message, /hush/);
      return true;
    });
  });

  test("is not needed where the environment says it all", async () => {
    const environment = {
      OS_AUTH_URL: "https://keystone.example.org",
      OS_USERNAME: "ci",
      OS_PASSWORD: "hush",
      OS_PROJECT_NAME: "pool",
      OS_USER_DOMAIN_NAME: "Default",
      OS_PROJECT_DOMAIN_ID: "d1",
      OS_REGION_NAME: "north",
      OS_INTERFACE: "admin",
      OS_CACERT: "/ca.pem",
    };
    const access = await find("runner", environment, { authFromEnv: true });
    assert.deepEqual(access.auth, {
      identity: {
        methods: ["password"],
        password: { user: { name: "ci", domain: { name: "Default" }, password: "hush" } },
      },
      scope: { project: { name: "pool", domain: { id: "d1" } } },
    });
    assert.deepEqual([access.region, access.interface, access.authorityPath], ["north", "admin", "/ca.pem"]);
    await rejects(find(undefined), /environment does not say.*cloud.*OS_AUTH_URL/);
  });
});
