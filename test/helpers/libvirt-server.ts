/**
 * A real libvirt daemon for tests, with QEMU under emulation: Debian's packages in a folder, started in namespaces of its own but for
 * the network, which is the test's.
 */
import { copyFile, mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { removeTree } from "../../src/host/files.ts";
import { run } from "../../src/host/run.ts";
import { waitFor } from "../../src/host/wait.ts";
import { prepareLibvirtServer } from "./libvirt-server/install.ts";
import { startNamespaces } from "./server-namespaces.ts";

export interface LibvirtServer {
  /** By its unix socket. */
  uri: string;
  /** By TLS, as from another host. */
  tlsUri: string;
  /** Has virsh: to be put before PATH. */
  programs: string;
  /** Of the session of somebody on the daemon's host, whose XDG_RUNTIME_DIR is `session` in the daemon's folder. */
  sessionUri: string;
  /** Of domains that are an SSH server, and of such that boot nothing, of which a small host has room for many. */
  sshTemplate: string;
  bareTemplate: string;
  /** From now on domains ask for their addresses themselves. */
  giveNoLeases(): Promise<void>;
  /** Runs a command beside the daemon, by a shell, and answers what it prints. */
  inside(command: string): Promise<string>;
  start(): Promise<void>;
  /** Ends the daemon; its domains live on. */
  stop(): Promise<void>;
  /** Whether clients with our certificate are let in; the daemon is started anew. */
  allowClient(isAllowed: boolean): Promise<void>;
  /** Ends everything and removes it. */
  remove(): Promise<void>;
}

/** The template's volume in the storage pool `default`: with nothing in it, for the guest is in the kernel's initrd. */
export const TINY_VOLUME = "tiny.qcow2";

const DOMAIN_TEMPLATE = fileURLToPath(new URL("../../templates/libvirt/domain.xml.hbs", import.meta.url));
const HOW_TO = fileURLToPath(new URL("../../docs/libvirt.md", import.meta.url));
const HOME = "/var/lib/libvirt";
/** Of the network `default`. */
export const BRIDGE = "virbr0";
const FORWARDING = "/proc/sys/net/ipv4/ip_forward";
const CLIENT = "CN=fleetingd";
const START_TIMEOUT_MS = 60_000;

/**
 * Domains that boot nothing ask for no address: this gives each a lease, as dnsmasq gives it one, by the same program of libvirt's.
 * A tap has its card's address, but for the first octet. (A neighbour would do as well, but libvirt loses some of a long table.)
 */
const LEASES = `declare -A known
export VIR_BRIDGE_NAME=${BRIDGE} DNSMASQ_INTERFACE=${BRIDGE} DNSMASQ_LEASE_EXPIRES=$(($(date +%s) + 86400))
while sleep 0.3 && [[ ! -e ${HOME}/silent ]]; do
  for device in /sys/class/net/vnet*; do
    read -r mac 2>/dev/null <$device/address || continue
    number=\${device##*vnet}
    [[ $mac == fe:* && \${known[$number]} != "$mac" ]] || continue
    address=10.78.$((2 + number / 250 % 2)).$((number % 250 + 1))
    /usr/lib/libvirt/libvirt_leaseshelper add "52\${mac#fe}" $address && known[$number]=$mac
  done
done
`;

/** What a guest does at its start that lives for a minute takes most of its time under emulation. */
const KERNEL_ARGUMENTS = [
  ...["console=ttyS0", "quiet", "random.trust_cpu=on", "mitigations=off", "nokaslr", "no_timer_check"],
  ...["tsc=reliable", "lpj=4000000", "rcupdate.rcu_expedited=1", "init_on_alloc=0", "cryptomgr.notests"],
];

const NETWORK = `<network><name>default</name><forward mode="open"/><bridge name="${BRIDGE}"/>
  <ip address="10.78.0.1" prefix="22"><dhcp><range start="10.78.0.10" end="10.78.1.250"/></dhcp></ip></network>`;

/** A daemon with a storage pool, a network and a template. Call it in a network namespace. */
export async function startLibvirtServer(): Promise<LibvirtServer> {
  const made = await prepareLibvirtServer();
  const forwarding = await readFile(FORWARDING, "utf8");
  const directory = await mkdtemp(join(tmpdir(), "libvirt-"));
  const [state, programs, pki] = ["state", "programs", "pki"].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  for (const path of [state, programs, pki, join(state, "images")]) await mkdir(path);
  const root = join(made, "root");
  await writeVirsh(root, programs);
  const server = ["libvirtd", "--listen", "--config", `${HOME}/libvirtd.conf`];
  const namespaces = startNamespaces({ root, state, home: HOME, server });
  const { run: shell } = namespaces;
  const libvirt: LibvirtServer = {
    uri: `qemu+unix:///system?socket=${state}/sock/libvirt-sock`,
    tlsUri: `qemu+tls://127.0.0.1/system?pkipath=${pki}`,
    programs,
    sessionUri: `qemu+unix:///session?socket=${state}/session/libvirt/libvirt-sock`,
    sshTemplate: join(directory, "ssh.xml.hbs"),
    bareTemplate: join(directory, "bare.xml.hbs"),
    inside: (command) =>
      shell(`export LIBVIRT_DEFAULT_URI='qemu+unix:///system?socket=${HOME}/sock/libvirt-sock'; ${command}`),
    giveNoLeases: async () => void (await shell(`touch ${HOME}/silent; sleep 1`)),
    async start() {
      await shell("start");
      const isUp = () =>
        libvirt.inside("virsh uri >/dev/null 2>&1").then(
          () => true,
          () => undefined,
        );
      await waitFor(isUp, { timeoutMs: START_TIMEOUT_MS, intervalMs: 100, what: "the libvirt daemon" });
    },
    stop: async () => void (await shell("stop")),
    async allowClient(isAllowed) {
      await libvirt.stop();
      await writeConfig(state, isAllowed ? CLIENT : "CN=somebody-else");
      await libvirt.start();
    },
    async remove() {
      await namespaces.end();
      const acceptedExitCodes = [0, 1];
      // The network is the test's own, so nothing of it ends with the daemon.
      await run("ip", ["link", "delete", BRIDGE], { acceptedExitCodes });
      for (const family of ["ip", "ip6"])
        await run("nft", ["delete", "table", family, "libvirt_network"], { acceptedExitCodes });
      await writeFile(FORWARDING, forwarding);
      await removeTree(directory);
    },
  };
  try {
    await writeTemplates(libvirt);
    await makeCertificates(pki);
    for (const name of ["vmlinuz", "initrd"]) await copyFile(join(made, name), join(state, name));
    await writeFile(join(state, "network.xml"), NETWORK);
    await writeFile(join(state, "leases"), LEASES);
    for (const name of ["cacert.pem", "servercert.pem", "serverkey.pem"])
      await copyFile(join(pki, name), join(state, name));
    await writeConfig(state, CLIENT);
    await libvirt.inside(`mount -t tmpfs images ${HOME}/images`);
    await libvirt.start();
    await libvirt.inside(
      [
        `virsh -q pool-define-as default dir --target ${HOME}/images`,
        "virsh -q pool-start default",
        `virsh -q vol-create-as default ${TINY_VOLUME} 1MiB --format qcow2`,
        `virsh -q net-define ${HOME}/network.xml`,
        "virsh -q net-start default",
        // Where clients without a `socket` in their URI look for it.
        `mkdir -p /run/libvirt && ln -sf ${HOME}/sock/libvirt-sock /run/libvirt/`,
      ].join(" && "),
    );
    await libvirt.inside(`bash ${HOME}/leases >/dev/null 2>&1 &`);
  } catch (error) {
    await libvirt.remove();
    throw error;
  }
  return libvirt;
}

/** The root's own, run with the root's libraries. */
async function writeVirsh(root: string, programs: string): Promise<void> {
  const path = join(programs, "virsh");
  const loader = join(root, "usr/lib64/ld-linux-x86-64.so.2");
  const libraries = join(root, "usr/lib/x86_64-linux-gnu");
  const command = `exec ${loader} --library-path ${libraries} ${root}/usr/bin/virsh "$@"`;
  await writeFile(path, `#!/bin/sh\n${command}\n`, { mode: 0o755 });
}

async function writeConfig(state: string, client: string): Promise<void> {
  const lines = [
    `unix_sock_dir = "${HOME}/sock"`,
    'auth_unix_ro = "none"',
    'auth_unix_rw = "none"',
    'unix_sock_group = "libvirt"',
    'unix_sock_rw_perms = "0770"',
    'listen_addr = "127.0.0.1"',
    `ca_file = "${HOME}/cacert.pem"`,
    `cert_file = "${HOME}/servercert.pem"`,
    `key_file = "${HOME}/serverkey.pem"`,
    `tls_allowed_dn_list = ["${client}"]`,
  ];
  await mkdir(join(state, "sock"), { recursive: true });
  await writeFile(join(state, "libvirtd.conf"), `${lines.join("\n")}\n`);
}

/** As the how-to says, but for a server at this address. */
async function makeCertificates(pki: string): Promise<void> {
  const block = (await howTo()).find((commands) => commands.includes("openssl")) ?? "";
  const commands = block
    .replaceAll("/etc/fleetingd/pki", pki)
    .replaceAll("DNS:rack7.example.org", "IP:127.0.0.1");
  await run("sh", ["-ec", commands]);
}

/** What docs/libvirt.md has people type, block by block. */
export async function howTo(): Promise<string[]> {
  const page = await readFile(HOW_TO, "utf8");
  return [...page.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block = ""]) => block);
}

/** Like ours, but for where the guest is: both are what a user may write. */
async function writeTemplates({ sshTemplate, bareTemplate }: LibvirtServer): Promise<void> {
  const ours = (await readFile(DOMAIN_TEMPLATE, "utf8"))
    .replace(/<memory .*/, '<memory unit="MiB">128</memory>')
    .replace("<apic/>", '<apic/><tcg><tb-cache unit="MiB">24</tb-cache></tcg>');
  const boot = [
    `<kernel>${HOME}/vmlinuz</kernel><initrd>${HOME}/initrd</initrd>`,
    `<cmdline>${KERNEL_ARGUMENTS.join(" ")}</cmdline>`,
  ].join("");
  await writeFile(sshTemplate, ours.replace('<boot dev="hd"/>', boot));
  const bare = ours
    .replace(/ machine="[^"]*"/, ' machine="pc"')
    .replace(/<cpu .*/, "")
    .replace(">128<", ">16<")
    .replace(/<serial[\s\S]*<\/rng>/, '<memballoon model="none"/>');
  await writeFile(bareTemplate, bare);
}

/** Keys of a source at that daemon. */
export function libvirtKeys(server: LibvirtServer): Readonly<Record<string, string>> {
  return { type: "libvirt", uri: server.tlsUri, image: TINY_VOLUME, domain_template: server.sshTemplate };
}
