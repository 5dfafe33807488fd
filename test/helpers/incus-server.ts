/**
 * A real Incus server for tests: Debian's packages in a folder, started in namespaces of its own but for the network, which is the
 * test's. `prepareIncusServer` needs a network and takes a minute or two; a second call finds everything there.
 */
import { chmod, copyFile, mkdir, mkdtemp, readFile, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { removeTree } from "../../src/host/files.ts";
import { run } from "../../src/host/run.ts";
import { waitFor } from "../../src/host/wait.ts";
import { cacheFolder, makeOnce } from "./made-once.ts";
import { startNamespaces, UDHCPC_SCRIPT } from "./server-namespaces.ts";

export interface IncusServer {
  /** Of its unix socket. */
  socketPath: string;
  url: string;
  /** Paths of PEM files. */
  clientCertificate: string;
  clientKey: string;
  serverCertificate: string;
  /** Runs a command beside the server, by a shell, and answers what it prints. */
  inside(command: string): Promise<string>;
  start(): Promise<void>;
  /** Ends the server; its instances live on. */
  stop(): Promise<void>;
  /** Ends everything and removes it. */
  remove(): Promise<void>;
}

/** The alias of a container image with nothing but an SSH server. */
export const TINY_IMAGE = "tiny";
export const INCUS_CLIENT = "fleetingd";

const GUEST_INIT = fileURLToPath(new URL("incus-server/guest-init.sh", import.meta.url));
const SUITE = "trixie";
const PACKAGES = [
  ...["incus-base", "incus-client", "dnsmasq-base", "nftables", "iproute2", "procps"],
  ...["systemd-standalone-sysusers", "busybox-static", "dropbear-bin"],
];
const SOCKET = "unix.socket";
const PORT = 8443;
const BRIDGE = "incusbr0";
const FORWARDING = "/proc/sys/net/ipv4/ip_forward";
const START_TIMEOUT_MS = 60_000;

const PRESEED = `
config:
  core.https_address: 127.0.0.1:${PORT}
  images.auto_update_interval: "0"
storage_pools:
- {name: default, driver: dir}
networks:
- name: ${BRIDGE}
  type: bridge
  config: {ipv4.address: 10.77.0.1/24, ipv4.nat: "false", ipv6.address: none}
profiles:
- name: default
  devices:
    root: {path: /, pool: default, type: disk}
    eth0: {name: eth0, network: ${BRIDGE}, type: nic}
`;

const METADATA = `
architecture: x86_64
creation_date: 1
properties: {description: an SSH server, os: none}
templates:
  /etc/hostname: {when: [create], template: hostname.tpl}
  /var/lib/cloud/seed/nocloud-net/user-data: {when: [create], template: user-data.tpl}
`;
const TEMPLATES = {
  "hostname.tpl": "{{ container.name }}\n",
  "user-data.tpl": '{{ config_get("cloud-init.user-data", "") }}\n',
};

/** @returns the folder with `root` and `tiny.tar` */
export async function prepareIncusServer(): Promise<string> {
  const scripts = await Promise.all([GUEST_INIT, UDHCPC_SCRIPT].map((path) => readFile(path)));
  const recipe = [SUITE, PACKAGES, METADATA, TEMPLATES, scripts.map(String)];
  return makeOnce(cacheFolder("incus-server", recipe), async (scratch) => {
    const root = join(scratch, "root");
    const options = ["--quiet", "--mode=root", "--variant=minbase", `--include=${PACKAGES.join(",")}`];
    await run("mmdebstrap", [...options, SUITE, root], { timeoutMs: 600_000 });
    await packTinyImage(root, scratch);
  });
}

/** Of what the server's own root has: busybox, and dropbear with its libraries. */
async function packTinyImage(root: string, target: string): Promise<void> {
  const image = join(target, "tiny");
  const rootfs = join(image, "rootfs");
  for (const name of ["bin", "sbin", "etc", "root", "proc", "sys", "dev", "run", "tmp", "var/lib/cloud"]) {
    await mkdir(join(rootfs, name), { recursive: true });
  }
  await mkdir(join(image, "templates"));
  await copyFile(join(root, "usr/bin/busybox"), join(rootfs, "bin/busybox"));
  for (const name of await busyboxPrograms(root)) {
    if (name !== "busybox") await symlink("busybox", join(rootfs, "bin", name));
  }
  await copyFile(join(root, "usr/sbin/dropbear"), join(rootfs, "sbin/dropbear"));
  const { stdout } = await run("chroot", [root, "ldd", "/usr/sbin/dropbear"]);
  for (const [path] of stdout.matchAll(/\/\S+/g)) {
    await mkdir(dirname(join(rootfs, path)), { recursive: true });
    await copyFile(join(root, path), join(rootfs, path));
  }
  await copyFile(GUEST_INIT, join(rootfs, "sbin/init"));
  await copyFile(UDHCPC_SCRIPT, join(rootfs, "etc/udhcpc.sh"));
  for (const script of ["sbin/init", "etc/udhcpc.sh"]) await chmod(join(rootfs, script), 0o755);
  await writeFile(join(rootfs, "etc/passwd"), "root:*:0:0::/root:/bin/sh\n");
  await writeFile(join(rootfs, "etc/group"), "root:x:0:\n");
  await writeFile(join(rootfs, "etc/shells"), "/bin/sh\n");
  await writeFile(join(image, "metadata.yaml"), METADATA);
  for (const [name, text] of Object.entries(TEMPLATES)) await writeFile(join(image, "templates", name), text);
  await run("tar", ["-C", image, "-cf", join(target, "tiny.tar"), "metadata.yaml", "templates", "rootfs"]);
  await removeTree(image);
}

async function busyboxPrograms(root: string): Promise<string[]> {
  const { stdout } = await run("chroot", [root, "busybox", "--list"]);
  return stdout.split("\n").filter((name) => name !== "");
}

/** A server with a storage pool, a network, the tiny image and a client that it trusts. Call it in a network namespace. */
export async function startIncusServer(): Promise<IncusServer> {
  const made = await prepareIncusServer();
  const forwarding = await readFile(FORWARDING, "utf8");
  const directory = await mkdtemp(join(tmpdir(), "incus-"));
  const state = join(directory, "state");
  await mkdir(state);
  const socketPath = join(state, SOCKET);
  const namespaces = startNamespaces({
    root: join(made, "root"),
    state,
    home: "/var/lib/incus",
    server: ["incusd", "--group", "root", "--logfile", "/var/lib/incus/log"],
  });
  const shell = namespaces.run;
  const server: IncusServer = {
    socketPath,
    url: `https://127.0.0.1:${PORT}`,
    clientCertificate: join(directory, "client.crt"),
    clientKey: join(directory, "client.key"),
    serverCertificate: join(state, "server.crt"),
    inside: shell,
    async start() {
      await shell("start");
      const isUp = () =>
        shell("incus query /1.0 >/dev/null 2>&1").then(
          () => true,
          () => undefined,
        );
      await waitFor(isUp, { timeoutMs: START_TIMEOUT_MS, intervalMs: 100, what: "the Incus server" });
    },
    stop: async () => void (await shell("stop")),
    async remove() {
      await namespaces.end();
      await clearNetwork(forwarding);
      await removeTree(directory);
    },
  };
  try {
    await setUp(server, made, state);
  } catch (error) {
    await server.remove();
    throw error;
  }
  return server;
}

/** The network is the test's own, so nothing of it ends with the server. */
async function clearNetwork(forwarding: string): Promise<void> {
  const acceptedExitCodes = [0, 1];
  await run("ip", ["link", "delete", BRIDGE], { acceptedExitCodes });
  await run("nft", ["delete", "table", "inet", "incus"], { acceptedExitCodes });
  await writeFile(FORWARDING, forwarding);
}

async function setUp(server: IncusServer, made: string, state: string): Promise<void> {
  const { clientCertificate, clientKey } = server;
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1", "-nodes"];
  await run("openssl", [
    "req",
    "-x509",
    ...key,
    "-days",
    "2",
    "-subj",
    "/CN=test",
    "-keyout",
    clientKey,
    "-out",
    clientCertificate,
  ]);
  await copyFile(clientCertificate, join(state, "client.crt"));
  await copyFile(join(made, "tiny.tar"), join(state, "tiny.tar"));
  await writeFile(join(state, "preseed.yaml"), PRESEED);
  await server.start();
  await server.inside("incus admin init --preseed < /var/lib/incus/preseed.yaml");
  await server.inside(`incus image import /var/lib/incus/tiny.tar --alias ${TINY_IMAGE}`);
  await trustClient(server);
}

export async function trustClient(server: IncusServer): Promise<void> {
  await server.inside(`incus config trust add-certificate /var/lib/incus/client.crt --name ${INCUS_CLIENT}`);
}

/** Keys of a source at that server: containers of the tiny image. */
export function incusKeys(server: IncusServer): Readonly<Record<string, string>> {
  return {
    type: "incus",
    url: server.url,
    client_certificate: server.clientCertificate,
    client_key: server.clientKey,
    server_certificate: server.serverCertificate,
    instance_type: "container",
    image: TINY_IMAGE,
    size: "c1-m1",
  };
}
