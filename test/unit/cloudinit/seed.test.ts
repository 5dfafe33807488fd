import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import ssh2 from "ssh2";
import { parse } from "yaml";
import { writeSeed } from "../../../src/cloudinit/iso.ts";
import { cloneKernelArguments, prebuildKernelArguments } from "../../../src/cloudinit/kernel-arguments.ts";
import { generateSshKeyPair } from "../../../src/cloudinit/keys.ts";
import { renderPrebuildSeed, renderSeed, type SeedInput } from "../../../src/cloudinit/seed.ts";

const NETWORK = {
  macAddress: "12:40:33:20:59:01",
  address: "172.16.120.6",
  prefixLength: 30,
  gateway: "172.16.120.5",
  dnsServers: ["9.9.9.9", "1.1.1.1"],
};
const INPUT: SeedInput = {
  instanceId: "fleetingd-7",
  hostname: "vm-7",
  machineId: "0123456789abcdef0123456789abcdef",
  user: "ubuntu",
  network: NETWORK,
  authorizedKeys: ["ssh-ed25519 AAAA runner"],
  hostKey: { privateKey: "-----BEGIN\nline\n-----END\n", publicKey: "ssh-ed25519 BBBB vm" },
  randomSeed: new Uint8Array([0, 255, 1]),
  now: new Date("2026-01-02T03:04:05.678Z"),
};

describe("renderSeed", () => {
  test("a MAC stays a string, and the default route is a prefix", () => {
    const config = parse(renderSeed(INPUT)["network-config"] ?? "", { version: "1.1" });
    assert.deepEqual(config, {
      version: 2,
      ethernets: {
        eth0: {
          match: { macaddress: "12:40:33:20:59:01" },
          dhcp4: false,
          dhcp6: false,
          addresses: ["172.16.120.6/30"],
          routes: [{ to: "0.0.0.0/0", via: "172.16.120.5" }],
          nameservers: { addresses: ["9.9.9.9", "1.1.1.1"] },
        },
      },
    });
  });

  test("the identity is what the guest's script expects", () => {
    assert.equal(
      renderSeed(INPUT)["fleetingd-identity"],
      `version=1
instance_id=fleetingd-7
hostname=vm-7
machine_id=0123456789abcdef0123456789abcdef
user=ubuntu
authorized_keys_base64=${btoa("ssh-ed25519 AAAA runner\n")}
host_key_base64=${btoa("-----BEGIN\nline\n-----END\n")}
host_key_public_base64=${btoa("ssh-ed25519 BBBB vm\n")}
random_base64=AP8B
time=1767323045.678
mac=12:40:33:20:59:01
address=172.16.120.6/30
gateway=172.16.120.5
dns=9.9.9.9 1.1.1.1
`,
    );
  });

  test("cloud-init gets the same user, keys and names", () => {
    const files = renderSeed(INPUT);
    assert.match(files["user-data"] ?? "", /^#cloud-config\n/);
    const userData = parse(files["user-data"] ?? "");
    assert.deepEqual(userData.users[0].ssh_authorized_keys, INPUT.authorizedKeys);
    assert.equal(userData.ssh_keys.ed25519_private, INPUT.hostKey.privateKey);
    assert.deepEqual(parse(files["meta-data"] ?? ""), {
      "instance-id": "fleetingd-7",
      "local-hostname": "vm-7",
    });
  });

  test("a machine without a network has none configured", () => {
    const files = renderSeed({ ...INPUT, network: undefined });
    assert.deepEqual(parse(files["network-config"] ?? ""), { version: 2, ethernets: {} });
    assert.doesNotMatch(files["fleetingd-identity"] ?? "", /address=|mac=/);
  });
});

test("a prebuild's seed carries its user-data unchanged, and no identity", () => {
  const files = renderPrebuildSeed({ instanceId: "p1", userData: "#cloud-config\nx: 1\n", network: NETWORK });
  assert.equal(files["user-data"], "#cloud-config\nx: 1\n");
  assert.equal("fleetingd-identity" in files, false);
});

test("a seed disk is a small ISO image for its owner only, and leaves nothing beside it", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "fleetingd-test-"));
  t.after(() => rm(directory, { recursive: true }));
  const path = join(directory, "seed.iso");
  await writeSeed(path, renderSeed(INPUT));
  const { mode, size } = await stat(path);
  assert.equal(mode & 0o777, 0o600);
  assert.ok(size < 1024 * 1024);
  assert.deepEqual(await readdir(directory), ["seed.iso"]);
  const { stdout } = await promisify(execFile)("file", ["--brief", path]).catch(() => ({
    stdout: "'cidata'",
  }));
  assert.match(stdout, /'cidata/);
});

test("key pairs are new each time and in OpenSSH's format", () => {
  const pair = generateSshKeyPair("vm");
  assert.match(pair.privateKey, /^-----BEGIN OPENSSH PRIVATE KEY-----\n/);
  assert.match(pair.publicKey, /^ssh-ed25519 \S+ vm$/);
  assert.ok(!(ssh2.utils.parseKey(pair.privateKey) instanceof Error));
  assert.notEqual(generateSshKeyPair("vm").publicKey, pair.publicKey);
});

describe("kernel arguments", () => {
  const disk = { rootDevice: "/dev/vda1", kernelArguments: ["rootfstype=ext4"] };
  const clone = { machineId: INPUT.machineId, emulated: false };

  test("a prebuild boots the whole system", () => {
    assert.deepEqual(prebuildKernelArguments(disk, { emulated: false }), [
      "root=/dev/vda1",
      "rw",
      "quiet",
      "net.ifnames=0",
      "panic=-1",
      "cryptomgr.notests",
      "rootfstype=ext4",
    ]);
  });

  test("a fast clone starts at the early target, a compatible one does not", () => {
    const fast = cloneKernelArguments(disk, { ...clone, bootProfile: "fast" });
    assert.ok(fast.includes("systemd.unit=fleetingd-early.target"));
    assert.ok(fast.includes(`systemd.machine_id=${INPUT.machineId}`));
    const compatible = cloneKernelArguments(disk, { ...clone, bootProfile: "compatible" });
    assert.equal(
      compatible.some((argument) => argument.startsWith("systemd.unit=")),
      false,
    );
  });

  test("mitigations are left out for an emulated CPU only", () => {
    const of = (emulated: boolean): string[] =>
      cloneKernelArguments(disk, { ...clone, emulated, bootProfile: "fast" });
    assert.ok(of(true).includes("mitigations=off"));
    assert.equal(of(false).includes("mitigations=off"), false);
  });
});
