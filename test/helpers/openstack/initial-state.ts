/** What the services hold at first: their tables, their own users, and a small cloud to use. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ensureDirectory } from "../../../src/host/files.ts";
import { run } from "../../../src/host/run.ts";
import { type CloudUser, type Json, logInAs } from "./admin.ts";
import type { Installation } from "./install.ts";
import {
  ADMIN_PASSWORD,
  configFiles,
  DEMO_PASSWORD,
  FOLDERS,
  PORTS,
  REGION,
  SERVICE_TYPES,
  type ServiceName,
  SUBNET,
  urlOf,
} from "./settings.ts";

const PYTHON_FILES = new URL("python/", import.meta.url).pathname;
const LONGEST_COMMAND_MS = 300_000;
/** Neutron's own quotas are larger. */
export const PLENTY = { instances: 100, cores: 100, ram: -1 };
const SERVICES = Object.keys(PORTS) as ServiceName[];

export async function writeConfiguration(directory: string, { venv }: Installation): Promise<void> {
  for (const folder of FOLDERS) await ensureDirectory(join(directory, folder));
  for (const [name, text] of Object.entries(configFiles(venv))) await writeFile(join(directory, name), text);
}

/** Makes the tables; no service may run. */
export async function makeTables(directory: string, { venv, python }: Installation): Promise<void> {
  const command = async (program: string, ...args: string[]): Promise<void> => {
    const env = { OS_PLACEMENT_CONFIG_DIR: directory };
    await run(join(venv, "bin", program), args, { cwd: directory, timeoutMs: LONGEST_COMMAND_MS, env });
  };
  const nova = (...args: string[]) => command("nova-manage", "--config-file", "nova.conf", ...args);
  const keystone = (...args: string[]) =>
    command("keystone-manage", "--config-file", "keystone.conf", ...args);
  const keys = ["--keystone-user", "root", "--keystone-group", "root"];
  const url = urlOf("keystone");
  await Promise.all([
    (async () => {
      await keystone("db_sync");
      await keystone("fernet_setup", ...keys);
      await keystone("credential_setup", ...keys);
      const urls = ["admin", "public", "internal"].flatMap((kind) => [`--bootstrap-${kind}-url`, url]);
      await keystone(
        "bootstrap",
        "--bootstrap-password",
        ADMIN_PASSWORD,
        ...urls,
        "--bootstrap-region-id",
        REGION,
      );
      await command("placement-manage", "--config-file", "placement.conf", "db", "sync");
      await command("glance-manage", "--config-file", "glance-api.conf", "db_sync");
    })(),
    (async () => {
      await nova("api_db", "sync");
      await nova("cell_v2", "map_cell0", "--database_connection", "sqlite:///db/nova_cell0.sqlite");
      await nova("db", "sync");
      await nova(
        "cell_v2",
        "create_cell",
        "--name",
        "cell1",
        "--transport-url",
        "fake://",
        ...["--database_connection", "sqlite:///db/nova_cell1.sqlite"],
      );
      const schema = [join(PYTHON_FILES, "neutron_schema.py"), "db/neutron.sqlite"];
      await run(python, schema, { cwd: directory, timeoutMs: LONGEST_COMMAND_MS });
      await command("neutron-db-manage", "--config-file", "neutron.conf", "stamp", "heads");
    })(),
  ]);
  // Readers and the writer of a database then don't wait for each other.
  const script =
    "import sqlite3, sys; [sqlite3.connect(f).execute('PRAGMA journal_mode=WAL') for f in sys.argv[1:]]";
  const databases = ["keystone", "placement", "glance", "neutron", "nova_api", "nova_cell0", "nova_cell1"];
  await run(python, ["-c", script, ...databases.map((name) => `db/${name}.sqlite`)], { cwd: directory });
}

/** Keystone runs: makes the services' users and endpoints. */
export async function makeServiceUsers(): Promise<void> {
  const admin = await logInAs({ name: "admin", password: ADMIN_PASSWORD, project: "admin" });
  const project = await create(admin, "keystone", "/projects", "project", {
    name: "service",
    domain_id: "default",
  });
  const roles = await rolesOf(admin);
  for (const name of SERVICES.filter((service) => service !== "keystone")) {
    await makeUser(admin, {
      name,
      password: ADMIN_PASSWORD,
      project,
      roles: [roles["admin"], roles["service"]],
    });
    const type = SERVICE_TYPES[name];
    const service = await create(admin, "keystone", "/services", "service", { name, type });
    for (const kind of ["public", "internal", "admin"]) {
      const endpoint = { service_id: service, interface: kind, url: urlOf(name), region_id: REGION };
      await create(admin, "keystone", "/endpoints", "endpoint", endpoint);
    }
  }
}

/** All services run: makes the project `demo` with its user, two flavors, two images and a network. */
export async function makeSmallCloud(): Promise<void> {
  const admin = await logInAs({ name: "admin", password: ADMIN_PASSWORD, project: "admin" });
  const project = await create(admin, "keystone", "/projects", "project", {
    name: "demo",
    domain_id: "default",
  });
  const roles = await rolesOf(admin);
  await makeUser(admin, { name: "demo", password: DEMO_PASSWORD, project, roles: [roles["member"]] });
  // So that a test can act in the project without being the user whom it revokes.
  await admin.call("keystone", "PUT", `/projects/${project}/users/${admin.userId}/roles/${roles["admin"]}`);
  await admin.call("nova", "PUT", `/os-quota-sets/${project}`, { quota_set: PLENTY });
  const flavors = [
    { name: "tiny", id: "1", ram: 64, vcpus: 1, disk: 1 },
    { name: "large", id: "4", ram: 8192, vcpus: 4, disk: 80 },
  ];
  for (const flavor of flavors) await create(admin, "nova", "/flavors", "flavor", flavor);
  const form = { disk_format: "raw", container_format: "bare", visibility: "public", architecture: "x86_64" };
  for (const [name, user] of Object.entries({ debian: "debian", flatcar: "core" })) {
    const image = await admin.call("glance", "POST", "/v2/images", {
      ...form,
      name,
      os_type: "linux",
      os_admin_user: user,
    });
    await admin.upload(`/v2/images/${String(image["id"])}/file`, "not really an image");
  }
  const network = await create(admin, "neutron", "/v2.0/networks", "network", { name: "ci", shared: true });
  const subnet = { network_id: network, name: "ci", ip_version: 4, cidr: SUBNET };
  await create(admin, "neutron", "/v2.0/subnets", "subnet", subnet);
}

async function create(
  user: CloudUser,
  service: ServiceName,
  path: string,
  kind: string,
  body: Json,
): Promise<string> {
  const answer = (await user.call(service, "POST", path, { [kind]: body })) as Record<string, { id: string }>;
  return answer[kind]?.id ?? "";
}

async function rolesOf(admin: CloudUser): Promise<Record<string, string>> {
  const { roles } = (await admin.call("keystone", "GET", "/roles")) as {
    roles: { id: string; name: string }[];
  };
  return Object.fromEntries(roles.map(({ id, name }) => [name, id]));
}

async function makeUser(
  admin: CloudUser,
  user: { name: string; password: string; project: string; roles: (string | undefined)[] },
): Promise<void> {
  const { name, password, project, roles } = user;
  const id = await create(admin, "keystone", "/users", "user", { name, password, domain_id: "default" });
  for (const role of roles)
    await admin.call("keystone", "PUT", `/projects/${project}/users/${id}/roles/${role}`);
}
