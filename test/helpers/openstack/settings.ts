/** How the services are configured: all paths are relative to the folder that they run in, so that it can be copied. */
import { join } from "node:path";

type Ini = Readonly<Record<string, Readonly<Record<string, string>>>>;

export const REGION = "RegionOne";
/** Of `admin` and of the services; there is nothing to protect. */
export const ADMIN_PASSWORD = "not-a-secret";
export const DEMO_PASSWORD = "demo-not-a-secret";

/** Of the network `ci`. */
export const SUBNET = "10.88.0.0/22";

/** As usual, and below those that the kernel gives to whoever connects: one of them would be taken now and then. */
export const PORTS = {
  keystone: 5000,
  placement: 8778,
  glance: 9292,
  neutron: 9696,
  nova: 8774,
} as const;
export type ServiceName = keyof typeof PORTS;

export const SERVICE_TYPES: Readonly<Record<ServiceName, string>> = {
  keystone: "identity",
  placement: "placement",
  glance: "image",
  neutron: "network",
  nova: "compute",
};

/** Folders that must be there. */
export const FOLDERS = [
  ...["db", "log", "lock", "images", "instances", "fernet", "credentials"],
  ...["guests", "console", "fail", "hold", "faults"],
];

export function urlOf(service: ServiceName): string {
  const path = { keystone: "/v3", nova: "/v2.1", placement: "", glance: "", neutron: "" }[service];
  return `http://127.0.0.1:${PORTS[service]}${path}`;
}

/** The services' configuration files by name. */
export function configFiles(venv: string): Readonly<Record<string, string>> {
  return {
    "keystone.conf": iniText({
      DEFAULT: { log_file: "log/keystone.log" },
      database: database("keystone"),
      token: { provider: "fernet" },
      // What is read while it is changed is remembered as it was before: users and what is revoked not for long.
      revoke: { cache_time: "1" },
      fernet_tokens: { key_repository: "fernet" },
      credential: { key_repository: "credentials" },
      identity: { password_hash_rounds: "4", cache_time: "1" },
      cache: { backend: "oslo_cache.dict", enabled: "true" },
    }),
    "placement.conf": iniText({
      DEFAULT: { log_file: "log/placement.log" },
      placement_database: database("placement"),
      api: { auth_strategy: "keystone" },
      keystone_authtoken: login("placement"),
    }),
    "glance-api.conf": iniText({
      DEFAULT: { log_file: "log/glance.log", enabled_backends: "fs:file", lock_path: "lock" },
      database: database("glance"),
      keystone_authtoken: login("glance"),
      paste_deploy: { flavor: "keystone", config_file: join(venv, "etc/glance/glance-api-paste.ini") },
      glance_store: { default_backend: "fs" },
      fs: { filesystem_store_datadir: "images" },
      os_glance_staging_store: { filesystem_store_datadir: "images/staging" },
      os_glance_tasks_store: { filesystem_store_datadir: "images/tasks" },
      oslo_messaging_notifications: { driver: "noop" },
    }),
    "neutron.conf": iniText({
      DEFAULT: {
        log_file: "log/neutron.log",
        core_plugin: "ml2",
        auth_strategy: "keystone",
        transport_url: "fake://",
        api_paste_config: join(venv, "etc/neutron/api-paste.ini"),
        state_path: ".",
        dhcp_agent_notification: "false",
        notify_nova_on_port_status_changes: "false",
        notify_nova_on_port_data_changes: "false",
      },
      database: database("neutron"),
      keystone_authtoken: login("neutron"),
      oslo_concurrency: { lock_path: "lock" },
      ml2: {
        type_drivers: "local",
        tenant_network_types: "local",
        mechanism_drivers: "bound",
        extension_drivers: "port_security",
      },
      oslo_messaging_notifications: { driver: "noop" },
    }),
    "nova.conf": iniText({
      DEFAULT: {
        log_file: "log/nova.log",
        state_path: ".",
        instances_path: "instances",
        transport_url: "fake://",
        host: "compute",
        my_ip: "127.0.0.1",
        compute_driver: "steered.SteeredDriver",
        // Room for as many as the quotas allow.
        max_concurrent_builds: "20",
      },
      api: { auth_strategy: "keystone" },
      api_database: database("nova_api"),
      database: database("nova_cell1"),
      keystone_authtoken: { ...login("nova"), token_cache_time: "2" },
      placement: login("nova"),
      neutron: login("nova"),
      service_user: { ...login("nova"), send_service_user_token: "true" },
      glance: { api_servers: urlOf("glance") },
      wsgi: { api_paste_config: join(venv, "etc/nova/api-paste.ini") },
      oslo_concurrency: { lock_path: "lock" },
      oslo_messaging_notifications: { driver: "noop" },
    }),
  };
}

/** A `clouds.yaml` for users of the cloud. */
export const CLOUDS_YAML = ["admin", "demo"]
  .map((name) =>
    [
      `  ${name}:`,
      `    auth:`,
      `      auth_url: ${urlOf("keystone")}`,
      `      username: ${name}`,
      `      password: ${name === "admin" ? ADMIN_PASSWORD : DEMO_PASSWORD}`,
      `      project_name: ${name}`,
      `      user_domain_name: Default`,
      `      project_domain_name: Default`,
      `    region_name: ${REGION}`,
      "",
    ].join("\n"),
  )
  .reduce((text, cloud) => text + cloud, "clouds:\n");

function database(name: string) {
  // What a killed process wrote is there all the same; only a power cut could lose it.
  return { connection: `sqlite:///db/${name}.sqlite`, sqlite_synchronous: "false" };
}

function login(username: string) {
  return {
    www_authenticate_uri: urlOf("keystone"),
    auth_url: urlOf("keystone"),
    auth_type: "password",
    username,
    password: ADMIN_PASSWORD,
    project_name: "service",
    user_domain_name: "Default",
    project_domain_name: "Default",
    region_name: REGION,
    service_token_roles_required: "true",
  };
}

function iniText(sections: Ini): string {
  return Object.entries(sections)
    .map(
      ([section, keys]) =>
        `[${section}]\n${Object.entries(keys)
          .map(([key, value]) => `${key} = ${value}\n`)
          .join("")}`,
    )
    .join("\n");
}
