/** Three VMs at once that go on from one snapshot: what each has of its own, what they share, and what happens without one. */
import assert from "node:assert/strict";
import { readdir, readFile, realpath, utimes } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { PoolStatus } from "../../src/api/status.ts";
import type { PluginClient } from "../../src/cli/demo/plugin-client.ts";
import type { ConnectInfoResponse } from "../../src/gen/fleeting.ts";
import { exists } from "../../src/host/files.ts";
import type { Login } from "../../src/host/ssh.ts";
import { waitFor } from "../../src/host/wait.ts";
import { findSnapshot, snapshotDamage } from "../../src/images/snapshots.ts";
import { parseVmSubnet, slotNetwork, slotOfAddress } from "../../src/network/slots.ts";
import { parseLocalData } from "../../src/sources/local/vm.ts";
import { IMAGES, logIn, poolToml, startTestDaemon, type TestDaemon } from "../helpers/daemon.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { ip, openHost, openNeighbour, type Place } from "../helpers/netns.ts";
import { failOnLeaks } from "../helpers/suite.ts";

const HOST = "203.0.113.2";
const OUTSIDE = "203.0.113.1";
const PORT = 8080;
const TIMEOUT_MS = 5 * 60_000;
const MAKING_TIMEOUT_MS = 15 * 60_000;
const CLONES = 3;
const SUBNET = parseVmSubnet("172.16.120.0/24");

failOnLeaks();

describe("VMs that go on from a snapshot", { skip: needsNamespace() }, () => {
  let host: Place;
  let outside: Place;
  let daemon: TestDaemon | undefined;
  let plugin: PluginClient;
  let ids: string[];
  let infos: ConnectInfoResponse[];
  let logins: Login[];

  before(async () => {
    host = await openHost();
    outside = await openNeighbour("outside", "egress0", [HOST, OUTSIDE]);
    await ip("route", "add", "default", "via", OUTSIDE);
    await outside.listen("tcp", { address: OUTSIDE, port: PORT });
    daemon = await startTestDaemon({
      pools: poolToml("default", { dns_servers: [OUTSIDE], clone_mode: "auto" }),
      settings: { max_concurrent_creates: CLONES },
    });
    await daemon.prebuild("default");
    plugin = await daemon.attach({ pool: "default" });
    await plugin.increase(CLONES);
    await untilReady(CLONES);
    ids = (await plugin.update()).map(({ instance }) => instance);
    infos = await Promise.all(ids.map((id) => plugin.connectInfo(id)));
    logins = await Promise.all(infos.map((info) => logIn(info)));
  });

  after(async () => {
    for (const login of logins ?? []) login.close();
    const endedWell = await daemon?.stop();
    await outside.close();
    await host.close();
    await ip("route", "flush", "table", "main");
    assert.ok(endedWell, daemon?.log());
  });

  async function untilReady(count: number): Promise<void> {
    const ready = async (): Promise<true | undefined> => {
      const { instances, pools } = await running().status();
      if (instances.some(({ state }) => state === "failed") || pools[0]?.lastError)
        assert.fail(running().log());
      return instances.filter(({ state }) => state === "ready").length >= count ? true : undefined;
    };
    await waitFor(ready, { timeoutMs: MAKING_TIMEOUT_MS, intervalMs: 50, what: `${count} VMs` });
  }
  function running(): TestDaemon {
    assert.ok(daemon);
    return daemon;
  }
  const outputOf = async (login: Login, command: string): Promise<string> => {
    const { exitCode, stdout, stderr } = await login.exec(command, TIMEOUT_MS);
    assert.equal(exitCode, 0, `${command}: ${stdout}${stderr}`);
    return stdout.trim();
  };
  const outputs = (command: string): Promise<string[]> =>
    Promise.all(logins.map((login) => outputOf(login, command)));
  const poolStatus = async (): Promise<PoolStatus> => {
    const [pool] = (await running().status()).pools;
    assert.ok(pool);
    return pool;
  };

  test("did not boot", async () => {
    const { instances } = await running().status();
    const { clones } = await poolStatus();
    assert.equal(clones.problem, null);
    assert.deepEqual(
      instances.map(({ snapshot, phases }) => [snapshot, phases.map(({ name }) => name)]),
      ids.map(() => [clones.snapshot, ["image", "clone", "resume", "ready"]]),
    );
  });

  test("have an identity of their own, and the right one", async () => {
    for (const command of [
      "cat /etc/machine-id",
      "cat /etc/ssh/ssh_host_ed25519_key.pub",
      "sudo -n cat /etc/ssh/ssh_host_ed25519_key",
      "cat /run/fleetingd/keys/ubuntu",
      "cat /run/fleetingd/instance-id",
      "ip -o address show scope link dev eth0 | awk '{print $4}'",
      "head -c 32 /dev/urandom | base64",
      "head -c 32 /dev/random | base64",
      "cat /proc/sys/kernel/random/uuid",
    ]) {
      assert.equal(new Set(await outputs(command)).size, CLONES, command);
    }
    assert.deepEqual(await outputs("hostname"), ids);
    assert.deepEqual(await outputs("cat /etc/hostname"), ids);
    assert.deepEqual(await outputs("awk '/127.0.1.1/{print $2}' /etc/hosts"), ids);
    assert.deepEqual(await outputs("cat /run/fleetingd/instance-id"), ids);
    const networks = infos.map(({ InternalAddr }) =>
      slotNetwork(SUBNET, slotOfAddress(SUBNET, InternalAddr) ?? assert.fail(InternalAddr)),
    );
    assert.deepEqual(
      await outputs("ip -4 -o address show dev eth0 | awk '{print $4}'"),
      networks.map(({ address, prefixLength }) => `${address}/${prefixLength}`),
    );
    assert.deepEqual(
      await outputs("cat /sys/class/net/eth0/address"),
      networks.map(({ macAddress }) => macAddress),
    );
  });

  test("draw other random numbers, services that the template has started included", async () => {
    const drawn = await Promise.all(infos.map(({ InternalAddr }) => cookieOf(InternalAddr)));
    assert.equal(new Set(drawn).size, CLONES, drawn.join(" "));
  });

  test("are up, with the host's time", async () => {
    for (const login of logins) {
      const before = Date.now();
      const seconds = Number(await outputOf(login, "date +%s.%N"));
      assert.ok(seconds * 1000 > before - 1000 && seconds * 1000 < Date.now() + 1000, `${seconds}`);
    }
    assert.deepEqual(new Set(await outputs("systemctl is-active multi-user.target")), new Set(["active"]));
    assert.deepEqual(
      new Set(await outputs("systemctl list-units --failed --no-legend --plain")),
      new Set([""]),
    );
  });

  test("have a network", async () => {
    const answers = await outputs(`timeout 60 bash -c 'exec 3<>/dev/tcp/${OUTSIDE}/${PORT}; cat <&3'`);
    assert.deepEqual(new Set(answers), new Set([HOST]));
  });

  test("have a disk of their own", async () => {
    const [first, ...others] = logins;
    assert.ok(first);
    await outputOf(first, "echo secret | sudo -n tee /var/tmp/mine && sync");
    for (const other of others) await outputOf(other, "sync && ! sudo -n ls /var/tmp/mine");
  });

  test("know nothing of the template", async () => {
    const [login] = logins;
    assert.ok(login);
    for (const command of [
      // Its keys: who is let in, and who it was. The brackets keep a pattern from finding itself in the log of sudo.
      "! sudo -n grep -rIl 'ssh-ed25519 .* [t]emplate' /etc /run /home /root /var",
      "sudo -n ls /run/fleetingd/keys | grep -qx ubuntu",
      "! sudo -n find / -xdev -name authorized_keys -size +0 | grep .",
      // Its logs, name and logins.
      "! sudo -n journalctl --quiet --no-pager | grep -w '[t]emplate'",
      "! sudo -n grep -rw '[t]emplate' /var/log",
      "! sudo -n ls -A /root/.bash_history /home/ubuntu/.bash_history",
    ]) {
      await outputOf(login, command);
    }
    const [one, other] = infos;
    assert.ok(one && other);
    await assert.rejects(logIn({ ...one, connector: other.connector }, 3_000), /no SSH login/);
  });

  test("have no way to the host's channel, root included, and the host listens for nobody", async () => {
    for (const login of logins) {
      await outputOf(login, "test -d /sys/class/virtio-ports && ! ls -A /sys/class/virtio-ports | grep .");
      await outputOf(login, "! sudo -n sh -c 'ls /dev/vport* /dev/virtio-ports'");
      // Who looks for it again finds that the bus has nobody on it.
      await outputOf(login, "sudo -n modprobe virtio_console; sleep 0.2; ! sudo -n sh -c 'ls /dev/vport*'");
      // It stays for some seconds, and then is gone.
      await outputOf(login, "while pgrep -f '[f]leetingd/identity' >/dev/null; do sleep 0.2; done");
    }
    for (const id of ids) {
      const files = await readdir(join(running().directory, "vms", id));
      assert.deepEqual(
        files.filter((name) => /channel|state/.test(name)),
        [],
      );
    }
  });

  test("share the kernel, and the memory that they have not written to, and never write to the file", async () => {
    const { snapshot: name } = (await poolStatus()).clones;
    const snapshot = await findSnapshot(IMAGES, name ?? "");
    assert.ok(snapshot?.kernelPath);
    const kernelPath = await realpath(snapshot.kernelPath);
    for (const id of ids) {
      const record = JSON.parse(await readFile(join(running().directory, "vms", id, "record.json"), "utf8"));
      const pid = parseLocalData(id, record.data)?.process?.pid ?? assert.fail("no process");
      const smaps = await readFile(`/proc/${pid}/smaps`, "utf8");
      assert.match(smaps, new RegExp(` ${kernelPath}$`, "m"), `${id} has a kernel of its own`);
      const kib = memoryOf(smaps, await realpath(snapshot.memoryPath));
      assert.ok(kib.shared > 0, `${id} shares nothing`);
      assert.ok(kib.private < (512 * 1024) / 2, `${id} has ${kib.private} KiB of its own`);
    }
    assert.equal(await snapshotDamage(snapshot), undefined);
  });

  // Cloud Hypervisor's channel is vsock, whose host is played here by a process in the guest: by vsock, too, from itself to itself.
  test("would become who they are over vsock as well, by a connection that the template did not have", async () => {
    const [, info] = infos;
    assert.ok(info);
    const login = await logIn(info);
    try {
      await outputOf(
        login,
        "sudo -n modprobe -n vmw_vsock_virtio_transport && sudo -n modprobe vsock_loopback",
      );
      for (const [path, text] of Object.entries({ "host.pl": VSOCK_HOST, "guest.sh": VSOCK_GUEST })) {
        const encoded = Buffer.from(text).toString("base64");
        await outputOf(login, `echo ${encoded} | base64 -d | sudo -n tee /root/${path} >/dev/null`);
      }
      // Its network goes away for a moment, as a template's does.
      await outputOf(login, "sudo -n systemd-run --quiet unshare --mount sh /root/guest.sh");
    } finally {
      login.close();
    }
    const answer = await waitFor(
      async () => {
        const again = await logIn(info);
        const { stdout } = await again.exec("sudo -n cat /run/answer; hostname", TIMEOUT_MS);
        again.close();
        return stdout.includes("\n") && stdout.trim() !== ids[1] ? stdout : undefined;
      },
      { timeoutMs: MAKING_TIMEOUT_MS, intervalMs: 500, what: "the answer over vsock" },
    );
    assert.equal(answer.trim(), "waiting\ndone\nby-vsock");
  });

  test("keep who they are when they reboot", async () => {
    const [id = "", ...rest] = ids;
    const [info] = infos;
    const [login] = logins;
    assert.ok(info && login);
    const machineId = await outputOf(login, "cat /etc/machine-id");
    await login.exec("sudo -n systemctl reboot", 30_000).catch(() => undefined);
    login.close();
    const again = await waitFor(
      async () => {
        const found = await logIn(info);
        const { stdout } = await found.exec("cat /proc/cmdline", TIMEOUT_MS);
        if (stdout.includes(machineId)) return found;
        found.close();
        return undefined;
      },
      { timeoutMs: MAKING_TIMEOUT_MS, intervalMs: 500, what: "the reboot" },
    );
    logins = [again, ...logins.slice(1)];
    assert.equal(await outputOf(again, "hostname"), id);
    assert.equal(await outputOf(again, "cat /etc/machine-id"), machineId);
    assert.equal(rest.length, CLONES - 1);
  });

  test("make room for one that boots while the snapshot is damaged, until there is a new one", async () => {
    const { snapshot: name } = (await poolStatus()).clones;
    const snapshot = await findSnapshot(IMAGES, name ?? "");
    assert.ok(snapshot);
    await utimes(snapshot.memoryPath, new Date(), new Date());
    await plugin.increase(1);
    await waitFor(async () => ((await poolStatus()).clones.problem !== null ? true : undefined), {
      ...{ timeoutMs: TIMEOUT_MS, intervalMs: 10, what: "the damage to be seen" },
    });
    assert.match((await poolStatus()).clones.problem ?? "", /memory was written to/);
    await untilReady(CLONES + 1);
    const { instances } = await running().status();
    const added = instances.find((one) => !ids.includes(one.id));
    assert.equal(added?.snapshot, null);
    assert.ok(added?.phases.some((phase) => phase.name === "boot"));
    assert.match(running().log(), /a snapshot cannot be used, VMs boot meanwhile/);
    const repaired = async (): Promise<true | undefined> => {
      const { snapshot: found, isBeingMade } = (await poolStatus()).clones;
      return found !== null && !isBeingMade ? true : undefined;
    };
    await waitFor(repaired, { timeoutMs: MAKING_TIMEOUT_MS, intervalMs: 100, what: "a new snapshot" });
    assert.ok(await exists(snapshot.memoryPath));
  });
});

/** The guest part, on a machine that seems to have a vsock device and to be a template. */
const VSOCK_GUEST = `
mkdir -p /run/devices/virtio9
echo 0x0013 >/run/devices/virtio9/device
mount --bind /run/devices /sys/bus/virtio/devices
# A template's sshd waits here; this one's has gone on long ago.
mkfifo /run/fleetingd/sshd_waits
cat /run/fleetingd/sshd_waits &
/usr/lib/fleetingd/identity resume &
perl /root/host.pl >/run/answer.new && mv /run/answer.new /run/answer
wait
`;
/** What the host does: a connection to the template, which does not outlive the snapshot, and one to the clone. */
const VSOCK_HOST = `
$| = 1;
sub to_guest {
    for (1 .. 1500) {
        socket(my $socket, 40, 1, 0) or die "socket: $!";
        connect($socket, pack('S S L L L', 40, 0, 1717, 1, 0)) and return $socket;
        select(undef, undef, undef, 0.02);
    }
    die "connect: $!";
}
my $template = to_guest();
print scalar <$template>;
close $template;
my $clone = to_guest();
open(my $saved, '<', '/var/lib/fleetingd/identity') or die;
my $identity = join '', <$saved>;
$identity =~ s/^hostname=.*$/hostname=by-vsock/m;
syswrite($clone, $identity . "end\n");
print scalar <$clone>;
`;

/** What sshd puts into its first message against replays: random bytes, unencrypted (RFC 4253, 7.1). */
async function cookieOf(address: string): Promise<string> {
  const socket = connect({ host: address, port: 22, timeout: TIMEOUT_MS });
  try {
    socket.write("SSH-2.0-test\r\n");
    let received = Buffer.alloc(0);
    for await (const chunk of socket) {
      received = Buffer.concat([received, chunk]);
      // Behind the line with its version: length, padding, number of the message.
      const start = received.indexOf("\r\n") + 2 + 6;
      if (start > 7 && received.length >= start + 16) return received.toString("hex", start, start + 16);
    }
    return assert.fail("sshd ended the connection");
  } finally {
    socket.destroy();
  }
}

/** Of a process's mappings of `path`, in KiB. */
function memoryOf(smaps: string, path: string): { shared: number; private: number } {
  const mappings = smaps
    .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
    .filter((text) => text.split("\n", 1)[0]?.endsWith(path));
  const sum = (name: RegExp): number =>
    mappings.flatMap((text) => [...text.matchAll(name)]).reduce((total, [, kib]) => total + Number(kib), 0);
  return { shared: sum(/^Shared_\w+: +(\d+) kB/gm), private: sum(/^Private_\w+: +(\d+) kB/gm) };
}
