/** What a release consists of, as its users get it: installed where nothing else is, pulled from a registry, and looked through. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { execa } from "execa";
import { licensesSchema } from "../../../src/cli/answers.ts";
import { exists } from "../../../src/host/files.ts";
import { listProcesses } from "../../../src/host/process-list.ts";
import { run } from "../../../src/host/run.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { parseVmProcess } from "../../../src/hypervisor/qemu/arguments.ts";
import { parseExactly } from "../../helpers/command-line.ts";
import { ROOT, tableToml } from "../../helpers/daemon.ts";
import { debianProgram } from "../../helpers/debian-programs.ts";
import { freshRoots } from "../../helpers/fresh-roots.ts";
import { needsNamespace, needsPrograms } from "../../helpers/namespace.ts";
import { createPrograms } from "../../helpers/stand-in-vm.ts";
import { makeImage } from "../../helpers/stand-in-world.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

const TIMEOUT_MS = 300_000;
const QEMU = "#!/bin/sh\necho QEMU emulator version 8.2.0\necho; echo 'pc-q35-8.2 Standard PC'\n";
const SMALL = { vm_disk_size_gb: 1, vm_memory_mb: 128 };
const LATER = "99.0.0";
const PATH = "/usr/sbin:/usr/bin:/sbin:/bin";
const REGISTRY = "127.0.0.1:5000";
const lacksTools = needsNamespace() || (await needsPrograms("lintian", "skopeo", "dpkg-deb"));
const roots = lacksTools === false ? await freshRoots() : new Map<string, string>();

failOnLeaks();

describe("a release", { skip: lacksTools }, () => {
  let folder: string;
  let release: string;
  let version: string;
  let deb: string;
  /** The same, in a later version. */
  let later: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "release-"));
    release = join(folder, "release");
    version = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")).version;
    await run(join(ROOT, "scripts/package"), [release], { timeoutMs: TIMEOUT_MS });
    deb = join(release, (await readdir(release)).find((name) => name.endsWith(".deb")) ?? "");
    later = await laterVersion();
  });
  after(() => rm(folder, { recursive: true, force: true }));

  async function laterVersion(): Promise<string> {
    const [tree, made] = [join(folder, "later"), join(folder, "later.deb")];
    await run("dpkg-deb", ["--raw-extract", deb, tree], { timeoutMs: TIMEOUT_MS });
    const control = join(tree, "DEBIAN/control");
    await writeFile(
      control,
      (await readFile(control, "utf8")).replace(/^Version: .*$/m, `Version: ${LATER}`),
    );
    await run("dpkg-deb", ["--root-owner-group", "-Znone", "--build", tree, made], { timeoutMs: TIMEOUT_MS });
    return made;
  }

  /** Runs `work` with a root whose changes are forgotten. */
  async function inRoot(lower: string, work: (chroot: Chroot, root: string) => Promise<void>): Promise<void> {
    const layers = await mkdtemp(join(folder, "layers-"));
    await run("mount", ["-t", "tmpfs", "release-layers", layers]);
    const [upper, scratch, root] = ["upper", "work", "root"].map((name) => join(layers, name)) as [
      string,
      string,
      string,
    ];
    for (const path of [upper, scratch, root]) await mkdir(path);
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${scratch}`;
    await run("mount", ["-t", "overlay", "-o", options, "release", root]);
    await run("mount", ["-t", "proc", "proc", join(root, "proc")]);
    for (const name of ["dev", "sys"]) await run("mount", ["--bind", `/${name}`, join(root, name)]);
    try {
      for (const [from, to] of Object.entries({ [deb]: "fleetingd.deb", [later]: "later.deb" }))
        await run("cp", [from, join(root, "root", to)]);
      const env = { PATH, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" };
      await work(
        (...words) =>
          execa("chroot", [root, ...words], {
            ...{ env, extendEnv: false, all: true, reject: false, timeout: TIMEOUT_MS },
          }),
        root,
      );
    } finally {
      await run("umount", ["--recursive", layers]);
    }
  }

  test("is covered by SHA256SUMS", async () => {
    await run("sha256sum", ["--check", "--strict", "--quiet", "SHA256SUMS"], { cwd: release });
    const listed = (await readFile(join(release, "SHA256SUMS"), "utf8")).match(/(?<= {2}).+$/gm);
    const files = (await readdir(release, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile() && entry.name !== "SHA256SUMS")
      .map((entry) => join(entry.parentPath, entry.name).slice(release.length + 1));
    assert.deepEqual(listed?.sort(), files.sort());
  });

  test("lists what it is made of", async () => {
    const sbom = JSON.parse(await readFile(join(release, "sbom.cdx.json"), "utf8"));
    assert.equal(sbom.bomFormat, "CycloneDX");
    const names = new Set(sbom.components.map(({ name }: { name: string }) => name));
    for (const name of ["execa", "handlebars", "got", "@grpc/grpc-js"]) assert.ok(names.has(name), name);
  });

  test("has a Debian package in which lintian finds no error", async () => {
    const { exitCode, all } = await execa(
      "lintian",
      ["--fail-on", "error", "--tag-display-limit", "0", deb],
      {
        ...{ all: true, reject: false, timeout: TIMEOUT_MS },
      },
    );
    assert.equal(exitCode, 0, all);
  });

  test("is installed on Debian 12 and 13", () => {
    assert.ok(roots.has("bookworm") && roots.has("trixie"), [...roots.keys()].join());
  });

  for (const [suite, lower] of roots) {
    test(`installs on a fresh ${suite}, runs there, is upgraded and removed with a VM that lives, and leaves nothing`, async () => {
      await inRoot(lower, async (chroot, root) => {
        // QEMU is large, and only asked here for what it is.
        await writeFile(join(root, "usr/bin/qemu-system-x86_64"), QEMU, { mode: 0o755 });
        const wanted = await chroot(
          "apt-get",
          "install",
          "--simulate",
          "--no-install-recommends",
          "/root/fleetingd.deb",
        );
        assert.equal(wanted.exitCode, 0, wanted.all);
        for (const name of ["mmdebstrap", "qemu-system-x86", "fleetingd"])
          assert.match(wanted.all, new RegExp(`^Inst ${name} `, "m"));
        const says = async (...words: string[]) => {
          const { exitCode, all } = await chroot(...words);
          assert.equal(exitCode, 0, all);
          return all;
        };
        await says("dpkg", "--force-depends", "--install", "/root/fleetingd.deb");
        assert.match(await says("fleetingd", "version"), new RegExp(`^fleetingd ${version} .*v22\\.`));
        assert.match(await says("fleeting-plugin-fleetingd", "version"), new RegExp(version));
        assert.match(await says("fleetingd", "config", "check"), /./);
        assert.match(await says("fleetingd", "licenses"), /Apache License/);
        parseExactly(licensesSchema, await says("fleetingd", "licenses", "--json"));
        assert.match(await says("stat", "-c", "%G %a", "/etc/fleetingd/config.toml"), /^fleetingd 640$/);

        const host = await standInHost(root);
        let daemon = await host.start();
        const [vm] = await host.vms();
        assert.ok(vm !== undefined, daemon.log());
        await says("dpkg", "--force-depends", "--install", "/root/later.deb");
        assert.match(await says("dpkg", "--status", "fleetingd"), new RegExp(`^Version: ${LATER}$`, "m"));
        assert.equal(await readFile(join(root, "etc/fleetingd/config.toml"), "utf8"), host.config);
        assert.deepEqual(await host.vms(), [vm], "an upgrade leaves it alone");
        // As systemd does it.
        await daemon.stop();
        daemon = await host.start();
        const { instances } = JSON.parse(await says("fleetingd", "status", "--json"));
        assert.deepEqual([instances.map(({ id }: { id: string }) => id), await host.vms()], [[vm.id], [vm]]);

        const refused = await chroot("dpkg", "--remove", "fleetingd");
        assert.notEqual(refused.exitCode, 0);
        assert.match(refused.all, /another daemon is listening[\s\S]*VMs may be left, so the package stays/);
        assert.deepEqual(await host.vms(), [vm], "what is refused ends nothing");
        await daemon.stop();
        assert.match(await says("dpkg", "--remove", "fleetingd"), /Everything is gone but the images/);
        assert.deepEqual(await host.vms(), []);
        assert.doesNotMatch((await run("ip", ["-o", "link"])).stdout, /fltap/);
        assert.equal((await run("nft", ["list", "tables"])).stdout, "");
        assert.ok(await exists(join(root, "etc/fleetingd/config.toml")));
        assert.match(await says("getent", "group", "fleetingd"), /^fleetingd:/, "the group stays");
        assert.deepEqual(await readdir(join(root, "var/lib/fleetingd/clones")), []);
        assert.equal((await readdir(join(root, "var/lib/fleetingd/golden"))).length > 0, true, "images stay");
        await says("dpkg", "--purge", "fleetingd");
        const left = await says("find", "/etc", "/usr", "/var/lib", "-name", "*fleeting*", "-print");
        assert.equal(left, "");
        const group = await chroot("getent", "group", "fleetingd");
        assert.deepEqual([group.exitCode, group.all], [2, ""], "the group goes");
      });
    });
  }

  test("has the plugin as an artifact that is pulled from a registry, and runs", async () => {
    const storage = join(folder, "registry");
    const config = join(folder, "registry.yml");
    await writeFile(
      config,
      `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${storage}}}\nhttp: {addr: "${REGISTRY}"}\n`,
    );
    const [program = "", ...words] = debianProgram("/usr/bin/docker-registry", "serve", config);
    const registry = execa(program, words, { reject: false, all: true });
    try {
      await waitFor(async () => ((await isUp()) ? true : undefined), {
        ...{ timeoutMs: TIMEOUT_MS, intervalMs: 100, what: "the registry" },
      });
      const name = `docker://${REGISTRY}/fleetingd:${version}`;
      const skopeo = (...args: string[]) =>
        run("skopeo", ["--insecure-policy", ...args], { timeoutMs: TIMEOUT_MS });
      await skopeo("copy", "--all", "--dest-tls-verify=false", `oci:${release}/oci:${version}`, name);
      for (const architecture of ["amd64", "arm64"]) {
        const pulled = join(folder, architecture);
        const platform = ["--override-os", "linux", "--override-arch", architecture];
        await skopeo(...platform, "copy", "--src-tls-verify=false", name, `dir:${pulled}`);
        const manifest = JSON.parse(await readFile(join(pulled, "manifest.json"), "utf8"));
        const { Env, Entrypoint } = (await blob(pulled, manifest.config.digest)).config;
        assert.deepEqual([Env, Entrypoint], [[`FLEETING_PLUGIN_PKG_VERSION=${version}`], ["/plugin/plugin"]]);
        assert.equal(manifest.layers.length, 1);
        const [{ annotations, digest }] = manifest.layers;
        assert.deepEqual(annotations, { "com.gitlab.fleeting.layer": version });
        const unpacked = await mkdtemp(join(folder, "plugin-"));
        await run("tar", ["-xzf", join(pulled, digest.replace("sha256:", "")), "-C", unpacked]);
        assert.deepEqual((await readdir(join(unpacked, "plugin"))).sort(), ["licenses.txt", "plugin"]);
        const ran = await run(join(unpacked, "plugin/plugin"), ["--version"]);
        assert.match(ran.stdout, new RegExp(version));
      }
    } finally {
      registry.kill("SIGKILL");
      await registry;
    }
  });
});

/** A host below `root` that the package is installed in; its VMs are stand-ins. */
async function standInHost(root: string) {
  const place = join(root, "opt/stand-in");
  await createPrograms(place);
  const { disk, kernel } = await makeImage(place);
  const inside = (path: unknown): string => String(path).slice(root.length);
  const config = [
    tableToml("daemon", { memory_overcommit_percent: 1000, max_vcpus_per_core: 256, disk_reserve_gb: 0 }),
    tableToml("images.default", { type: "files", disk: inside(disk), kernel: inside(kernel) }),
    tableToml("pools.ci", { ...{ warm_instances: 1, max_instances: 1, clone_mode: "boot" }, ...SMALL }),
  ].join("");
  await writeFile(join(root, "etc/fleetingd/config.toml"), config);
  return {
    config,
    async vms() {
      return (await listProcesses()).flatMap(({ arguments: words, identity: { pid } }) => {
        const vm = parseVmProcess(words);
        return vm?.directory.startsWith("/var/lib/fleetingd/") ? [{ id: vm.id, pid }] : [];
      });
    },
    /** The daemon, as its unit starts it, when its VM is warm. */
    async start() {
      const env = { PATH: `/opt/stand-in/bin:${PATH}`, LC_ALL: "C" };
      const daemon = execa("chroot", [root, "fleetingd", "serve"], {
        env,
        extendEnv: false,
        all: true,
        reject: false,
      });
      let log = "";
      daemon.all.on("data", (data) => (log += String(data)));
      const isWarm = async (): Promise<true | undefined> => {
        if (daemon.exitCode !== null) throw new Error(log);
        const args = [root, "fleetingd", "why"];
        const { stdout } = await execa("chroot", args, { env, extendEnv: false, reject: false });
        return stdout.endsWith("as it should be.") ? true : undefined;
      };
      await waitFor(isWarm, { timeoutMs: TIMEOUT_MS, intervalMs: 200, what: "a VM to be warm" });
      return {
        log: () => log,
        async stop() {
          daemon.kill("SIGTERM");
          assert.equal((await daemon).exitCode, 0, log);
        },
      };
    },
  };
}

type Chroot = (...words: string[]) => Promise<{ exitCode?: number | undefined; all: string }>;

async function isUp(): Promise<boolean> {
  try {
    return (await fetch(`http://${REGISTRY}/v2/`)).ok;
  } catch {
    // It does not listen yet.
    return false;
  }
}

async function blob(pulled: string, digest: string) {
  return JSON.parse(await readFile(join(pulled, digest.replace("sha256:", "")), "utf8"));
}
