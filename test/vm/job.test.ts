/** What a job finds inside its VM, and what it can't reach from there: two real VMs, an outside, a resolver. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import type { PluginClient } from "../../src/cli/demo/plugin-client.ts";
import { type ConnectInfoResponse, State } from "../../src/gen/fleeting.ts";
import type { Login } from "../../src/host/ssh.ts";
import { waitFor } from "../../src/host/wait.ts";
import { scopeWords, strippingWords } from "../../src/hypervisor/confinement.ts";
import { logIn, poolToml, startTestDaemon, type TestDaemon } from "../helpers/daemon.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { expectingAnswers, ip, openHost, openNeighbour, type Place } from "../helpers/netns.ts";
import { failOnLeaks } from "../helpers/suite.ts";

const HOST = "203.0.113.2";
const OUTSIDE = "203.0.113.1";
const SPOOFED = "198.51.100.9";
const METADATA = "169.254.169.254";
const PORT = 8080;
const TIMEOUT_MS = 5 * 60_000;

failOnLeaks();

describe("a job's VM", { skip: needsNamespace() }, () => {
  let outside: Place;
  let host: Place;
  let resolver: ChildProcess | undefined;
  let daemon: TestDaemon | undefined;
  let plugin: PluginClient;
  let ids: string[];
  let infos: ConnectInfoResponse[];
  let first: Login;
  let second: Login;

  before(async () => {
    host = await openHost();
    outside = await openNeighbour("outside", "egress0", [HOST, OUTSIDE]);
    await ip("route", "add", "default", "via", OUTSIDE);
    resolver = await startResolver();
    await outside.listen("tcp", { address: OUTSIDE, port: PORT });
    daemon = await startTestDaemon({
      pools: poolToml("default", { warm_instances: 2, dns_servers: [OUTSIDE] }),
    });
    await daemon.prebuild("default");
    await daemon.untilWarm("default", 2);
    plugin = await daemon.attach({ pool: "default" });
    assert.equal(await plugin.increase(2), 2);
    ids = (await plugin.update()).map(({ instance }) => instance);
    infos = await Promise.all(ids.map((id) => plugin.connectInfo(id)));
    [first, second] = (await Promise.all(infos.map((info) => logIn(info)))) as [Login, Login];
  });

  after(async () => {
    first?.close();
    second?.close();
    const endedWell = await daemon?.stop();
    if (resolver?.kill("SIGTERM")) await once(resolver, "exit");
    await outside.close();
    await host.close();
    await ip("route", "flush", "table", "main");
    assert.ok(endedWell, daemon?.log());
  });

  const output = async (login: Login, command: string): Promise<string> => {
    const { exitCode, stdout, stderr } = await login.exec(command, TIMEOUT_MS);
    assert.equal(exitCode, 0, `${command}: ${stdout}${stderr}`);
    return stdout.trim();
  };
  /** Whether a TCP connection from the VM works. */
  /** A way that is open may take its time. */
  const reaches = async (login: Login, address: string, port: number, seconds = 3): Promise<boolean> =>
    (await login.exec(`timeout ${seconds} bash -c '</dev/tcp/${address}/${port}'`, TIMEOUT_MS)).exitCode ===
    0;

  test("is reported as running, with the address that the runner dials", async () => {
    const states = await plugin.update();
    assert.deepEqual(new Set(states.map(({ state }) => state)), new Set([State.RUNNING]));
    for (const info of infos) {
      assert.equal(info.connector?.username, "ubuntu");
      assert.equal(info.connector?.protocol, "ssh");
      assert.match(info.InternalAddr, /^172\.16\.120\./);
    }
  });

  test("has the default user with passwordless sudo, and no password login", async () => {
    assert.equal(await output(first, "id -un"), "ubuntu");
    assert.equal(await output(first, "sudo -n id -un"), "root");
    assert.match(await output(first, "sudo -n passwd --status ubuntu"), /^ubuntu L /);
    assert.match(await output(first, "sudo -n sshd -T | grep -i ^passwordauthentication"), / no$/);
  });

  test("answers the original's ready command at once", async () => {
    const { exitCode } = await first.exec("timeout 2 cloud-init status --wait", TIMEOUT_MS);
    assert.equal(exitCode, 0);
  });

  test("has finished booting", async () => {
    assert.equal(await output(first, "systemctl is-active multi-user.target"), "active");
    assert.equal(await output(first, "systemctl list-units --failed --no-legend --plain"), "");
  });

  test("could be a host: systemd there holds the process of a VM to its limits, in a cgroup that ends with it", async () => {
    const limits = { memoryMiB: 96, cpuWeight: 50, cpuPercent: 150, tasks: 33 };
    const disk = { diskMiBPerSecond: 3, diskOperationsPerSecond: 700 };
    const look = `
      cd /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup) && pwd
      grep -H . memory.max cpu.weight cpu.max io.max pids.max
      head -c 1 /dev/vda; echo $?; head -c 1 /dev/urandom > /dev/null; echo $?
      grep -E "^(CapBnd|CapInh|NoNewPrivs)" /proc/self/status`;
    // As root in the daemon's unit, which has few of root's capabilities.
    const unit = [
      "setpriv",
      "--bounding-set=-all,+setuid,+setpcap",
      "--inh-caps=-all",
      "--no-new-privs",
      "--",
    ];
    const words = [
      ...unit,
      ...scopeWords("a-vm", { ...limits, ...disk }, "/etc/passwd"),
      ...strippingWords(["setuid"]),
      ...["sh", "-c", look],
    ];
    const quoted = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
    const text = await output(first, `sudo -n ${quoted} 2>&1`);
    assert.match(text, /^\/sys\/fs\/cgroup\/fleetingd\.slice\/fleetingd-a-vm\.scope$/m);
    assert.match(text, /^memory\.max:100663296$/m);
    assert.match(text, /^cpu\.weight:50$/m);
    assert.match(text, /^cpu\.max:150000 100000$/m);
    assert.match(text, /^pids\.max:33$/m);
    assert.match(text, /^io\.max:\d+:\d+ rbps=3145728 wbps=3145728 riops=700 wiops=700$/m);
    assert.match(text, /\/dev\/vda.*not permitted\n1\n0\n/);
    assert.match(text, /^CapInh:\t0+80$/m);
    assert.match(text, /^CapBnd:\t0+$/m);
    assert.match(text, /^NoNewPrivs:\t1$/m);
    assert.equal(
      await output(first, "systemctl list-units --all --no-legend --plain 'fleetingd-*.scope'"),
      "",
    );
  });

  test("has an identity of its own", async () => {
    for (const command of [
      "hostname",
      "cat /etc/machine-id",
      "cat /etc/ssh/ssh_host_ed25519_key.pub",
      "cat /run/fleetingd/keys/ubuntu",
      "ip -4 -o address show dev eth0 | awk '{print $4}'",
      "cat /sys/class/net/eth0/address",
      "head -c 16 /dev/urandom | base64",
    ]) {
      assert.notEqual(await output(first, command), await output(second, command), command);
    }
    assert.deepEqual([await output(first, "hostname"), await output(second, "hostname")], ids);
  });

  test("does not let the other VM's key in", async () => {
    const [one, other] = infos as [ConnectInfoResponse, ConnectInfoResponse];
    await assert.rejects(logIn({ ...one, connector: other.connector }, 3_000), /no SSH login/);
  });

  test("has the disk and the memory that were asked for", async () => {
    const gib = Number(await output(first, "df --output=size -B1M / | tail -1")) / 1024;
    assert.ok(gib > 3.5 && gib <= 4, `${gib} GiB`);
    assert.ok(Number(await output(first, "awk '/MemTotal/{print int($2/1024)}' /proc/meminfo")) > 400);
  });

  test("asks the configured resolver", async () => {
    assert.match(await output(first, "getent ahostsv4 job.example.test"), /^203\.0\.113\.77 /);
  });

  test("reaches the outside, which sees the host's address", async () => {
    assert.ok(await reaches(first, OUTSIDE, PORT, 60));
    assert.equal(
      await output(first, `timeout 5 bash -c 'exec 3<>/dev/tcp/${OUTSIDE}/${PORT}; cat <&3'`),
      HOST,
    );
  });

  test("does not reach the other VM", async () => {
    const [, other] = infos;
    assert.equal(await reaches(first, other?.InternalAddr ?? "", 22), false);
    assert.equal((await first.exec(`ping -c 1 -W 2 ${other?.InternalAddr}`, TIMEOUT_MS)).exitCode, 1);
  });

  test("does not reach the host's services, but its gateway answers a ping", async () => {
    await host.listen("tcp", { address: "0.0.0.0", port: PORT });
    assert.equal(
      (await expectingAnswers(() => outside.tcp({ address: HOST, port: PORT }))) !== undefined,
      true,
      "the service itself works",
    );
    const gateway = await output(first, "ip -4 route show default | awk '{print $3}'");
    assert.equal(await reaches(first, gateway, PORT), false);
    assert.equal(await reaches(first, HOST, PORT), false);
    await output(first, `ping -c 1 -W 60 ${gateway}`);
  });

  test("does not reach the metadata address", async () => {
    await outside.ip("address", "add", `${METADATA}/32`, "dev", "uplink");
    await outside.listen("tcp", { address: METADATA, port: PORT });
    await ip("route", "add", `${METADATA}/32`, "via", OUTSIDE);
    assert.notEqual(
      await expectingAnswers(() => host.tcp({ address: METADATA, port: PORT })),
      undefined,
      "the host itself reaches it",
    );
    assert.equal(await reaches(first, METADATA, PORT), false);
  });

  test("can't send with a source address that is not its own", async () => {
    await output(first, `sudo -n ip address add ${SPOOFED}/32 dev eth0`);
    const { exitCode } = await first.exec(
      `curl -s --max-time 3 --interface ${SPOOFED} telnet://${OUTSIDE}:${PORT}`,
      TIMEOUT_MS,
    );
    assert.notEqual(exitCode, 0);
    assert.ok((await outside.received()).every((line) => !line.includes(SPOOFED)));
    assert.ok(await reaches(first, OUTSIDE, PORT, 60), "its own address still works");
  });

  test("is gone after Decrease, and nothing else is", async () => {
    const [gone = "", left = ""] = ids;
    assert.deepEqual(await plugin.decrease([gone]), [gone]);
    await waitFor(
      async () => ((await plugin.update()).some(({ instance }) => instance === gone) ? undefined : true),
      { timeoutMs: TIMEOUT_MS, intervalMs: 50, what: "the VM to be gone" },
    );
    await assert.rejects(plugin.heartbeat(gone));
    await plugin.heartbeat(left);
    assert.equal(await output(second, "hostname"), left);
    assert.deepEqual(await plugin.decrease([gone, "fl-unknown"]), [gone, "fl-unknown"]);
  });

  async function startResolver(): Promise<ChildProcess> {
    const child = spawn(
      "nsenter",
      [
        "--net=/run/netns/outside",
        "--",
        "dnsmasq",
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--conf-file=/dev/null",
      ].concat([
        `--listen-address=${OUTSIDE}`,
        "--bind-interfaces",
        "--address=/job.example.test/203.0.113.77",
      ]),
      { stdio: "inherit" },
    );
    await once(child, "spawn");
    return child;
  }
});
