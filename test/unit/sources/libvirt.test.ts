/** What libvirt is told and what its answers mean; how it takes it is seen with a real daemon in test/sources. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parsePluginConfig } from "../../../src/config/plugin-config.ts";
import { readSource } from "../../../src/config/source-keys.ts";
import { parseConfig } from "../../../src/config.ts";
import { readAddress, readTemplate, sizeInBytes } from "../../../src/sources/libvirt/answers.ts";
import type { LibvirtConfig } from "../../../src/sources/libvirt/config.ts";
import { domainValues, loadDomainTemplate } from "../../../src/sources/libvirt/domain-xml.ts";
import { errorOf, failuresIn, isAbsent } from "../../../src/sources/libvirt/errors.ts";
import { openLibvirt } from "../../../src/sources/libvirt/libvirt.ts";
import {
  instanceOfVolume,
  macAddressOf,
  readTag,
  tagElement,
  uuidOf,
  volumesOf,
} from "../../../src/sources/libvirt/tags.ts";

const TAG = { daemon: "d-1", pool: "ci", instance: "fl-bcdfghjkmnpq" };

function configOf(keys: Record<string, unknown> = {}): LibvirtConfig {
  const read = readSource({ type: "libvirt", image: "debian.qcow2", ...keys });
  assert.ok("source" in read && read.source.type === "libvirt", JSON.stringify(read));
  return read.source;
}

function problemsOf(keys: Record<string, unknown>): string {
  const read = readSource({ type: "libvirt", image: "debian.qcow2", ...keys });
  assert.ok("findings" in read);
  return read.findings.map(({ path, text }) => `${path.join(".")}: ${text}`).join("\n");
}

describe("a libvirt source's keys", () => {
  test("need only the image", () => {
    const { uri, storagePool, network, bridge, vcpus, memoryMiB, isolated, sshKeyPath } = configOf();
    assert.deepEqual(
      [uri, storagePool, network, bridge],
      ["qemu:///system", "default", "default", undefined],
    );
    assert.deepEqual([vcpus, memoryMiB, isolated, sshKeyPath], [1, 2048, true, undefined]);
  });

  test("take libvirt's URIs, and no password in them", () => {
    for (const uri of [
      "qemu+ssh://ci@rack7.example.org:2222/system?keyfile=/etc/fleetingd/id&no_tty=1",
      "qemu+tls://rack7.example.org/system?pkipath=/etc/fleetingd/pki",
      "qemu+unix:///system?socket=/run/libvirt/libvirt-sock",
    ]) {
      assert.equal(configOf({ uri }).uri, uri);
    }
    const session = "qemu+ssh://ci@rack7/session?keyfile=/etc/fleetingd/id";
    assert.equal(configOf({ uri: session, isolated: false }).uri, session);
    assert.match(problemsOf({ uri: session }), /isolated: a session can't keep its instances apart/);
    const near = "qemu+unix:///session?socket=/run/user/1000/libvirt/libvirt-sock";
    assert.equal(configOf({ uri: near, isolated: false }).uri, near);
    for (const uri of ["qemu:///session", "qemu+unix:///session", "qemu:///session?no_verify=1"]) {
      const problem = problemsOf({ uri, isolated: false });
      assert.match(problem, /uri: this would be a session of root.*qemu\+unix:\/\/\/session\?socket=/);
    }
    assert.match(problemsOf({ uri: "rack7" }), /uri: expected a URI such as "qemu:\/\/\/system"/);
    assert.match(problemsOf({ uri: "xen:///system" }), /uri: expected a URI/);
    const refused = problemsOf({ uri: "qemu+ssh://ci:geheim@rack7/system" });
    assert.match(refused, /uri: a password has no place in a URI/);
    assert.doesNotMatch(refused, /geheim/);
  });

  test("say what is wrong with a value", () => {
    assert.match(problemsOf({ image: "../../etc/shadow" }), /image: expected the name of a volume/);
    assert.match(problemsOf({ storage_pool: "a; destroy b" }), /storage_pool: expected a name/);
    assert.match(problemsOf({ name_template: "runner" }), /name_template: expected a name with \$random/);
    assert.match(problemsOf({ domain_template: "d.xml" }), /domain_template: expected an absolute path/);
    assert.match(problemsOf({ disk_size: "20" }), /disk_size: expected a size/);
    assert.match(problemsOf({ profiles: [] }), /profiles: only sources of type "incus" have this key/);
  });

  test("stand in plugin_config as well, with libvirt_ before them", () => {
    const keys = {
      libvirt_uri: "qemu+ssh://ci@rack7/system",
      libvirt_image: "debian.qcow2",
      libvirt_size: "c4-m8",
      create_timeout: "3m",
      max_instances: 7,
    };
    const { pool, inline } = parsePluginConfig(JSON.stringify(keys), parseConfig([]));
    assert.equal(inline, true);
    const [source, ...others] = pool.sources;
    assert.deepEqual(others, []);
    assert.ok(source?.config?.type === "libvirt");
    const { uri, image, vcpus, memoryMiB, createTimeoutMs, maxInstances } = source.config;
    assert.deepEqual([uri, image], ["qemu+ssh://ci@rack7/system", "debian.qcow2"]);
    assert.deepEqual([vcpus, memoryMiB, createTimeoutMs, maxInstances], [4, 8192, 180_000, 7]);
    assert.throws(
      () => parsePluginConfig(JSON.stringify({ ...keys, libvirt_size: "big" }), parseConfig([])),
      /libvirt_size: expected a size/,
    );
  });
});

describe("a libvirt machine's tag", () => {
  test("is read again as it was written", () => {
    const odd = { ...TAG, pool: `a<&>"'b` };
    assert.deepEqual(readTag(tagElement(odd)), odd);
    // As libvirt prints it.
    assert.deepEqual(readTag(`<instance daemon='d-1' pool="ci" instance="fl-bcdfghjkmnpq"/>`), TAG);
    assert.equal(readTag("<libosinfo:os/>"), undefined);
    assert.equal(readTag(""), undefined);
  });

  test("gives UUID, address and volumes that are nobody else's", () => {
    assert.match(uuidOf(TAG), /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.match(macAddressOf(TAG), /^52(:[0-9a-f]{2}){5}$/);
    for (const other of [{ daemon: "d-2" }, { pool: "cj" }, { instance: "fl-x" }]) {
      assert.notEqual(uuidOf({ ...TAG, ...other }), uuidOf(TAG));
      assert.notEqual(macAddressOf({ ...TAG, ...other }), macAddressOf(TAG));
      assert.notDeepEqual(volumesOf({ ...TAG, ...other }), volumesOf(TAG));
    }
    for (const volume of Object.values(volumesOf(TAG))) {
      assert.equal(instanceOfVolume(volume, TAG), TAG.instance);
      assert.equal(instanceOfVolume(volume, { ...TAG, pool: "cj" }), undefined);
    }
    assert.equal(instanceOfVolume("debian.qcow2", TAG), undefined);
  });
});

describe("a libvirt domain's template", () => {
  const render = async (keys: Record<string, unknown> = {}, type: "kvm" | "qemu" = "kvm") => {
    const config = configOf(keys);
    return (await loadDomainTemplate(config)).render(domainValues(config, TAG, type));
  };

  test("is ours unless there is another one", async () => {
    const xml = await render({ size: "c2-m4", name_template: "ci-$random" });
    assert.match(xml, /<domain type="kvm">/);
    assert.match(xml, /<name>ci-fl-bcdfghjkmnpq<\/name>/);
    assert.ok(xml.includes(`<metadata>${tagElement(TAG)}</metadata>`));
    assert.match(xml, /<memory unit="MiB">4096<.*\n\s*<vcpu>2</);
    assert.match(xml, /<source network="default"\/>/);
    assert.match(xml, /<port isolated="yes"\/>/);
    assert.match(xml, /host-passthrough/);
    const other = await render({ bridge: "br0", isolated: false }, "qemu");
    assert.match(other, /<interface type="bridge">\s*<source bridge="br0"\/>/);
    assert.doesNotMatch(other, /isolated|network=|host-passthrough/);
  });

  test("of one's own is filled in, escaped, and refused if a domain of it could not be found again", async () => {
    const directory = await mkdtemp(join(tmpdir(), "template-"));
    const path = join(directory, "domain.xml.hbs");
    const refused = async (text: string, pattern: RegExp): Promise<void> => {
      await writeFile(path, text);
      await assert.rejects(openLibvirt(configOf({ domain_template: path })), (error: Error) => {
        assert.match(error.message, pattern);
        return true;
      });
    };
    try {
      await refused("<domain>{{name}}{{uuid}}</domain>", /lacks {{{tag}}}/);
      await refused("<domain>{{name}}{{{tag}}}</domain>", /lacks {{uuid}}/);
      await refused("<domain>{{name}}{{uuid}}{{{tag}}}{{memory}}</domain>", /can't be filled in: .*memory/);
      await refused("{{#if}}", /can't be filled in/);
      const text = "<domain><name>{{name}}</name>{{uuid}}<metadata>{{{tag}}}</metadata>{{network}}</domain>";
      await writeFile(path, text);
      const config = { ...configOf({ domain_template: path }), network: "a<b&'c" };
      const xml = (await loadDomainTemplate(config)).render(domainValues(config, TAG, "qemu"));
      assert.ok(xml.includes("a&lt;b&amp;&#x27;c"), xml);
      const before = await openLibvirt(config);
      await writeFile(path, `${text}\n`);
      assert.notEqual((await openLibvirt(config)).fingerprint, before.fingerprint);
      await rm(path);
      await assert.rejects(openLibvirt(config), /the domain template .* can't be read/);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});

describe("virsh's answers", () => {
  const MAC = "52:aa:bb:cc:dd:ee";

  test("the address is our card's, IPv4 before IPv6; without one, any that can be reached", () => {
    const lease = `\n vnet0      ${MAC}    ipv4         10.78.3.93/22\n`;
    assert.equal(readAddress(lease, MAC), "10.78.3.93");
    const agent = [
      " lo         00:00:00:00:00:00    ipv4         127.0.0.1/8",
      " docker0    02:42:00:00:00:01    ipv4         172.17.0.1/16",
      ` eth0       ${MAC}    ipv6         fe80::50aa:bbff:fecc:ddee/64`,
      ` eth0       ${MAC}    ipv6         2001:db8::7/64`,
      ` eth0       ${MAC}    ipv4         192.0.2.7/24`,
    ];
    assert.equal(readAddress(agent.join("\n"), MAC), "192.0.2.7");
    assert.equal(readAddress(agent.slice(0, 4).join("\n"), MAC), "2001:db8::7");
    assert.equal(readAddress(agent.slice(0, 2).join("\n"), MAC), "172.17.0.1");
    assert.equal(readAddress(agent[0] ?? "", MAC), undefined);
    assert.equal(readAddress("", MAC), undefined);
  });

  test("a template is a volume with path, format and size", () => {
    const xml = `<volume type='file'><name>d</name><capacity unit='bytes'>1048576</capacity>
      <target><path>/var/lib/a&amp;b.qcow2</path><format type='qcow2'/></target></volume>`;
    assert.deepEqual(readTemplate(xml, "d"), {
      path: "/var/lib/a&b.qcow2",
      format: "qcow2",
      capacityBytes: 1048576,
    });
    assert.throws(() => readTemplate("<volume type='dir'/>", "d"), { code: "INVALID_CONFIG" });
    assert.deepEqual([sizeInBytes("20GiB"), sizeInBytes("2MB")], [20 * 1024 ** 3, 2_000_000]);
  });

  test("failures are told apart by libvirt's own words", () => {
    const errorFor = (...lines: string[]) => {
      const [failure] = failuresIn(lines.map((line) => `error: ${line}\n`).join(""));
      assert.ok(failure !== undefined);
      return errorOf(failure, "the libvirt daemon qemu:///system");
    };
    const connecting = "failed to connect to the hypervisor";
    const cases: [string, ...string[]][] = [
      ["UNAVAILABLE", connecting, "Failed to connect socket to '/run/x': No such file or directory"],
      ["UNAVAILABLE", connecting, "Cannot recv data: ssh: connect to host a port 22: Connection refused: …"],
      ["UNAVAILABLE", connecting, "something new"],
      ["PERMISSION", connecting, "Failed to connect socket to '/run/x': Permission denied"],
      ["PERMISSION", connecting, "authentication unavailable: no polkit agent available"],
      ["PERMISSION", connecting, "Unable to read TLS confirmation: Input/output error"],
      ["UNAVAILABLE", "Disconnected from qemu:///system due to end of file"],
      ["EXHAUSTED", "Failed to create vol x", "cannot create file '/x': No space left on device"],
      [
        "EXHAUSTED",
        "Failed to create domain from /x",
        "cannot set up guest memory 'pc.ram': Cannot allocate memory",
      ],
      [
        "INVALID_CONFIG",
        "Failed to create vol x",
        "Requested operation is not valid: storage pool 'p' is not active",
      ],
      [
        "INVALID_CONFIG",
        "failed to get vol 'x'",
        "Storage volume not found: no storage vol with matching path 'x'",
      ],
      ["INVALID_CONFIG", "Failed to create domain from /x", "unsupported configuration: …"],
      ["NOT_FOUND", "failed to get domain 'x'"],
      ["HYPERVISOR_FAILED", "Failed to create domain from /x", "internal error: …"],
    ];
    for (const [code, ...lines] of cases) assert.equal(errorFor(...lines).code, code, lines.join());
    assert.match(
      errorFor("Failed to create domain from /tmp/x", "internal error: qemu said no").message,
      /^the libvirt daemon qemu:\/\/\/system says: internal error: qemu said no$/,
    );
  });

  test("that something is not there is told from a daemon that is not there", () => {
    const absent =
      "error: failed to get domain 'a'\nerror: failed to get vol 'x'\nerror: Storage volume not found: …\n";
    assert.deepEqual(failuresIn(absent).map(isAbsent), [true, true]);
    const away =
      "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/x': No such file or directory\n";
    assert.deepEqual(failuresIn(away).map(isAbsent), [false]);
    assert.deepEqual(failuresIn(""), []);
  });
});
