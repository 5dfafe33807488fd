/** Services on the host's loopback, with the real programs and the configuration that docs/local-services.md shows. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { packageFile } from "../../../src/host/package-root.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { createFabric, type Fabric } from "../../../src/network/fabric.ts";
import { DEFAULT_POLICY, type Policy } from "../../../src/network/policy.ts";
import { SERVICE_ADDRESS } from "../../../src/network/services.ts";
import { parseVmSubnet, slotNetwork } from "../../../src/network/slots.ts";
import { debianProgram } from "../../helpers/debian-programs.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import {
  expectingAnswers,
  openGuest,
  openHost,
  openNeighbour,
  type Place,
  startServer,
} from "../../helpers/netns.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

const [HOST, OUTSIDE] = ["203.0.113.1", "203.0.113.2"] as const;
const SECRET_PORT = 7777;
const SERVICES = [
  { name: "dns", address: "127.0.0.1", port: 53 },
  { name: "registry_mirror", address: "127.0.0.1", port: 5000 },
  { name: "package_cache", address: "127.0.0.1", port: 3142 },
] as const;
const LAYER = "what an image is made of";
const DIGEST = `sha256:${createHash("sha256").update(LAYER).digest("hex")}`;
const START_TIMEOUT_MS = 60_000;

const subnet = parseVmSubnet("172.16.120.");
const [alice, bob] = [slotNetwork(subnet, 0), slotNetwork(subnet, 1)];
const open: Policy = { ...DEFAULT_POLICY, name: "ci", services: SERVICES };

failOnLeaks();

describe("services on the host's loopback", { skip: needsNamespace() }, () => {
  let folder: string;
  let fabric: Fabric;
  let host: Place;
  let outside: Place;
  let guest: Place;
  let other: Place;
  const servers: { end(): Promise<void> }[] = [];

  const start = async (command: readonly string[], namespace?: string): Promise<void> => {
    servers.push(await startServer(command, namespace));
  };
  /** A file as the page shows it, with these words replaced. */
  const configured = async (path: string, changes: Record<string, string> = {}): Promise<string> => {
    const page = await readFile(await packageFile("docs/local-services.md"), "utf8");
    const [, block] = page.split(`\`${path}\`:\n`)[1]?.split(/```\w*\n/) ?? [];
    let text = block ?? assert.fail(`the page shows no ${path}`);
    for (const [from, to] of Object.entries(changes)) {
      assert.ok(text.includes(from), from);
      text = text.replace(from, to);
    }
    const file = join(folder, path.replaceAll("/", "_"));
    await writeFile(file, text);
    return file;
  };
  const fetched = async (url: string, from = guest, ...options: string[]): Promise<string | undefined> =>
    from.run("timeout", "10", "busybox", "wget", "-q", "-O", "-", ...options, url).catch(() => undefined);
  const untilFetched = (url: string, from: Place, ...options: string[]): Promise<string> =>
    waitFor(() => fetched(url, from, ...options), {
      timeoutMs: START_TIMEOUT_MS,
      intervalMs: 200,
      what: `an answer from ${url}`,
    });
  const isShut = async (address: string, port: number, from = guest): Promise<boolean> =>
    (await from.connect({ address, port }, 1)) === 0;
  const isOpen = async (address: string, port: number, from = guest): Promise<boolean> =>
    !(await expectingAnswers(() => isShut(address, port, from)));

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "services-"));
    host = await openHost();
    outside = await openNeighbour("outside", "egress0", [HOST, OUTSIDE]);
    await outside.ip("route", "add", "default", "via", HOST);
    // The world outside: a registry with one layer, and an archive with one package.
    await mkdir(join(folder, "pool"));
    await writeFile(join(folder, "pool/hello_1.0_all.deb"), "a package");
    await start(["busybox", "httpd", "-f", "-p", `${OUTSIDE}:80`, "-h", folder], "outside");
    const upstream = await configured("/etc/docker/registry/config.yml", {
      "/var/lib/docker-registry": join(folder, "upstream"),
      "127.0.0.1:5000": `${OUTSIDE}:5000`,
      "proxy:\n  remoteurl: https://registry-1.docker.io\n": "",
    });
    await start(debianProgram("/usr/bin/docker-registry", "serve", upstream), "outside");
    await untilFetched(`http://${OUTSIDE}:5000/v2/`, host);
    await push(`http://${OUTSIDE}:5000/v2/library/tiny`);
    // The host's own.
    const mirror = await configured("/etc/docker/registry/config.yml", {
      "/var/lib/docker-registry": join(folder, "mirror"),
      "https://registry-1.docker.io": `http://${OUTSIDE}:5000`,
    });
    await start(debianProgram("/usr/bin/docker-registry", "serve", mirror));
    const cache = ["CacheDir", "LogDir"].map((name) => `${name}=${join(folder, name)}`);
    await mkdir(join(folder, "acng"));
    await writeFile(
      join(folder, "acng/zz_fleetingd.conf"),
      await readFile(await configured("/etc/apt-cacher-ng/zz_fleetingd.conf")),
    );
    await start(
      debianProgram("/usr/sbin/apt-cacher-ng", "-c", join(folder, "acng"), ...cache, "ForeGround=1"),
    );
    const resolver = await configured("/etc/dnsmasq.d/fleetingd.conf");
    const options = ["--keep-in-foreground", `--conf-file=${resolver}`, "--pid-file", "--user=root"];
    await start(["dnsmasq", ...options, "--no-resolv", "--address=/service.test/192.0.2.80"]);
    for (const protocol of ["tcp", "udp"] as const) {
      await host.listen(protocol, { address: "127.0.0.1", port: SECRET_PORT });
    }
    fabric = createFabric({
      subnets: [subnet],
      services: SERVICES,
      policies: [open, { ...DEFAULT_POLICY, name: "without" }],
    });
    await fabric.open();
    await fabric.attach({ network: alice, egressInterface: "egress0", policy: "ci" });
    await fabric.attach({ network: bob, egressInterface: "egress0", policy: "without" });
    guest = await openGuest("alice", alice);
    other = await openGuest("bob", bob);
  });

  afterEach(() => fabric.setPolicy(open));

  after(async () => {
    await fabric.close();
    for (const server of servers) await server.end();
    for (const place of [guest, other, outside, host]) await place.close();
    await rm(folder, { recursive: true });
  });

  test("a resolver answers", async () => {
    for (const address of [SERVICE_ADDRESS, alice.gateway]) {
      const lookUp = () =>
        guest.run("busybox", "nslookup", "-type=a", "service.test", address).catch(() => undefined);
      const wait = { timeoutMs: START_TIMEOUT_MS, intervalMs: 200, what: "the resolver" };
      assert.match(await waitFor(lookUp, wait), /192\.0\.2\.80/);
      assert.ok(await isOpen(address, 53), "by TCP, too");
    }
  });

  test("a registry mirror has what Docker Hub has", async () => {
    for (const address of [SERVICE_ADDRESS, alice.gateway]) {
      const url = `http://${address}:5000/v2/library/tiny/blobs/${DIGEST}`;
      assert.equal(await untilFetched(url, guest), LAYER);
    }
  });

  test("a package cache fetches packages, and tunnels nothing", async () => {
    const proxy = `http://${SERVICE_ADDRESS}:3142`;
    const fetchPackage = () =>
      guest
        .run("env", `http_proxy=${proxy}`, "busybox", "wget", "-q", "-O", "-", PACKAGE_URL)
        .catch(() => undefined);
    const wait = { timeoutMs: START_TIMEOUT_MS, intervalMs: 200, what: "the package" };
    assert.equal(await waitFor(fetchPackage, wait), "a package");
    const said = await guest.run("perl", "-e", CONNECT, SERVICE_ADDRESS, "3142", `${OUTSIDE}:80`);
    assert.match(said, /^HTTP\/1\.. 403/);
  });

  test("nothing else of the loopback, or at that address, is open", async () => {
    for (const address of [SERVICE_ADDRESS, alice.gateway]) {
      assert.ok(await isShut(address, SECRET_PORT), address);
      assert.equal(await guest.udp({ address, port: SECRET_PORT }), undefined, address);
    }
    assert.equal(await guest.ping(SERVICE_ADDRESS), false);
    assert.ok(await isShut(HOST, 5000), "the host's other addresses");
    assert.ok(await isShut(bob.gateway, 5000), "another VM's gateway");
  });

  test("nobody but VMs gets there", async () => {
    for (const { port } of SERVICES) {
      assert.ok(await isShut(HOST, port, outside), `port ${port}`);
      assert.ok(await isShut(SERVICE_ADDRESS, port, outside), `port ${port}`);
      assert.ok(await isShut(alice.gateway, port, outside), `port ${port}`);
    }
    assert.ok(await isOpen("127.0.0.1", 5000, host), "control: it listens");
  });

  test("a pool that has them not finds them closed, and a change takes effect at once", async () => {
    assert.ok(await isShut(SERVICE_ADDRESS, 5000, other));
    assert.ok(await isShut(bob.gateway, 5000, other));
    await fabric.setPolicy({ ...open, egress: "none", services: [SERVICES[1]] });
    assert.ok(await isOpen(SERVICE_ADDRESS, 5000));
    assert.ok(await isShut(SERVICE_ADDRESS, 3142));
    assert.ok(await isShut(SERVICE_ADDRESS, 53));
    await fabric.setPolicy({ ...open, services: [] });
    assert.ok(await isShut(SERVICE_ADDRESS, 5000));
  });

  test("a daemon without services takes the way away again", async () => {
    const setting = async (): Promise<string> =>
      (await readFile(`/proc/sys/net/ipv4/conf/${bob.tapName}/route_localnet`, "utf8")).trim();
    assert.equal(await setting(), "1");
    await fabric.release();
    const without = createFabric({ subnets: [subnet], policies: [{ ...DEFAULT_POLICY, name: "without" }] });
    await without.open();
    await without.attach({ network: bob, egressInterface: "egress0", policy: "without" });
    assert.equal(await setting(), "0");
    assert.ok(await isShut(SERVICE_ADDRESS, 5000, other));
    await without.release();
    await fabric.open();
    await fabric.attach({ network: bob, egressInterface: "egress0", policy: "without" });
  });
});

const PACKAGE_URL = `http://${OUTSIDE}/pool/hello_1.0_all.deb`;

/** Gives a registry's repository one layer. */
async function push(repository: string): Promise<void> {
  const { headers } = await fetch(`${repository}/blobs/uploads/`, { method: "POST" });
  const location = headers.get("location") ?? assert.fail("the registry takes no uploads");
  const url = `${location}${location.includes("?") ? "&" : "?"}digest=${DIGEST}`;
  const type = { "Content-Type": "application/octet-stream" };
  const { status } = await fetch(url, { method: "PUT", body: LAYER, headers: type });
  assert.equal(status, 201);
}

/** Asks a proxy for a tunnel and prints its answer: `address port to`. */
const CONNECT = `
  use IO::Socket::INET;
  my $socket = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1], Timeout => 60) or die $!;
  print $socket "CONNECT $ARGV[2] HTTP/1.1\\r\\nHost: $ARGV[2]\\r\\n\\r\\n";
  print scalar <$socket>;
`;
