/** The NoCloud data that makes a machine itself: pure text. `writeSeed` makes a disk of it. */
import { yamlValue } from "./yaml-text.ts";

/** The machine's network as it sees it. */
export interface SeedNetwork {
  macAddress: string;
  address: string;
  prefixLength: number;
  gateway: string;
  dnsServers: readonly string[];
  /** Absent: it has no IPv6. */
  ipv6?: { address: string; prefixLength: number; gateway: string } | undefined;
}

export interface SeedInput {
  /** New for every machine: cloud-init configures a machine whose instance-id it does not know. */
  instanceId: string;
  hostname: string;
  /** 32 hexadecimal digits. */
  machineId: string;
  /** The user that the keys are for. */
  user: string;
  /** Absent: the machine has no network. */
  network?: SeedNetwork | undefined;
  /** Public keys that may log in, one a string. */
  authorizedKeys: readonly string[];
  hostKey: { privateKey: string; publicKey: string };
  /** At least 32 bytes, new for every machine. */
  randomSeed: Uint8Array;
  /** The host's time when the machine starts; a guest that is behind catches up. */
  now: Date;
}

/** File names on the seed disk, and their content. */
export type SeedFiles = Readonly<Record<string, string>>;

/** The seed disk's serial number and how the guest finds it: the label. */
export const SEED_DISK_SERIAL = "fleetingd-seed";

/** The seed of a clone: read by `identity` in a fast image, and by cloud-init in any other. */
export function renderSeed(input: SeedInput): SeedFiles {
  return {
    "user-data": cloneUserData(input),
    ...renderCommon(input.instanceId, input.hostname, input.network),
    "fleetingd-identity": renderIdentity(input),
  };
}

/** The seed of a prebuild, whose user-data comes from `renderPrebuildUserData`. */
export function renderPrebuildSeed(input: {
  instanceId: string;
  userData: string;
  network?: SeedNetwork | undefined;
}): SeedFiles {
  return { "user-data": input.userData, ...renderCommon(input.instanceId, "prebuild", input.network) };
}

/** What `identity` in the guest reads: `key=value` lines; bytes and many lines in base64. */
export function renderIdentity(input: SeedInput): string {
  const base64 = (data: string | Uint8Array): string => Buffer.from(data).toString("base64");
  const { network } = input;
  const lines: Array<[key: string, value: string]> = [
    ["version", "1"],
    ["instance_id", input.instanceId],
    ["hostname", input.hostname],
    ["machine_id", input.machineId],
    ["user", input.user],
    ["authorized_keys_base64", base64(input.authorizedKeys.map((key) => `${key.trim()}\n`).join(""))],
    ["host_key_base64", base64(input.hostKey.privateKey)],
    ["host_key_public_base64", base64(`${input.hostKey.publicKey.trim()}\n`)],
    ["random_base64", base64(input.randomSeed)],
    ["time", (input.now.getTime() / 1000).toFixed(3)],
  ];
  if (network !== undefined) {
    lines.push(
      ["mac", network.macAddress],
      ["address", `${network.address}/${network.prefixLength}`],
      ["gateway", network.gateway],
      ["dns", network.dnsServers.join(" ")],
    );
    const { ipv6 } = network;
    if (ipv6 !== undefined) {
      lines.push(["address6", `${ipv6.address}/${ipv6.prefixLength}`], ["gateway6", ipv6.gateway]);
    }
  }
  return lines.map(([key, value]) => `${key}=${value}\n`).join("");
}

function renderCommon(instanceId: string, hostname: string, network: SeedNetwork | undefined): SeedFiles {
  return {
    "meta-data": yamlLines({ "instance-id": instanceId, "local-hostname": hostname }),
    "network-config": networkConfig(network),
    // Not in the user-data, which names the golden image and must not differ from host to host.
    "vendor-data": vendorData(network),
  };
}

function cloneUserData(input: SeedInput): string {
  const text = yamlLines({
    hostname: input.hostname,
    manage_etc_hosts: true,
    users: [
      {
        name: input.user,
        shell: "/bin/bash",
        groups: ["adm", "sudo"],
        sudo: "ALL=(ALL) NOPASSWD:ALL",
        lock_passwd: true,
        ssh_authorized_keys: input.authorizedKeys.map((key) => key.trim()),
      },
    ],
    disable_root: true,
    ssh_pwauth: false,
    ssh_deletekeys: true,
    // A program more before it is up, for a console that nobody reads.
    ssh: { emit_keys_to_console: false },
    no_ssh_fingerprints: true,
    ssh_genkeytypes: ["ed25519"],
    ssh_keys: { ed25519_private: input.hostKey.privateKey, ed25519_public: input.hostKey.publicKey.trim() },
    package_update: false,
    package_upgrade: false,
    locale: false,
    apt: { preserve_sources_list: true },
  });
  return `#cloud-config\n${text}`;
}

/**
 * One network card, by its MAC. The key is the interface's name under `net.ifnames=0`, because cloud-init's networkd renderer
 * matches by both. The default route is written as a prefix: cloud-init 22.4 brings no network up when it reads `default`.
 */
function networkConfig(network: SeedNetwork | undefined): string {
  if (network === undefined) return yamlLines({ version: 2, ethernets: {} });
  const { ipv6 } = network;
  const card = {
    match: { macaddress: network.macAddress },
    dhcp4: false,
    dhcp6: false,
    addresses: [
      `${network.address}/${network.prefixLength}`,
      ...(ipv6 === undefined ? [] : [`${ipv6.address}/${ipv6.prefixLength}`]),
    ],
    routes: [
      { to: "0.0.0.0/0", via: network.gateway },
      ...(ipv6 === undefined ? [] : [{ to: "::/0", via: ipv6.gateway }]),
    ],
    nameservers: { addresses: network.dnsServers },
  };
  return yamlLines({ version: 2, ethernets: { eth0: card } });
}

function vendorData(network: SeedNetwork | undefined): string {
  // The tables of a grown file system need no zeroing in a sparse, disposable disk: it would only write.
  const commands = ['[ "$(findmnt -no FSTYPE /)" != ext4 ] || mount -o remount,noinit_itable /'];
  if (network !== undefined && network.dnsServers.length > 0) {
    // Where systemd-resolved serves, it has these from the network configuration.
    const lines = network.dnsServers.map((server) => `nameserver ${server}\\n`).join("");
    commands.push(`[ -L /etc/resolv.conf ] || printf '${lines}' >/etc/resolv.conf`);
  }
  return `#cloud-config\n${yamlLines({ bootcmd: commands.map((command) => ["sh", "-c", command]) })}`;
}

function yamlLines(values: Readonly<Record<string, unknown>>): string {
  return Object.entries(values)
    .map(([key, value]) => `${key}: ${yamlValue(value)}\n`)
    .join("");
}
