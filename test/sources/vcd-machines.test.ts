/** What is VMware Cloud Director's own, at the stand-in that vcd.test.ts has its vendor's client judge. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { generateSshKeyPair } from "../../src/cloudinit/keys.ts";
import { FleetingdError } from "../../src/errors.ts";
import { waitFor } from "../../src/host/wait.ts";
import type { MachineAddress, MachineData, Owner } from "../../src/sources/remote/cloud.ts";
import type { VcdConfig } from "../../src/sources/vcd/config.ts";
import { VcdCloud } from "../../src/sources/vcd/vcd.ts";
import { buildXml, textOf } from "../../src/sources/vcd/xml.ts";
import { failOnLeaks } from "../helpers/suite.ts";
import { guestOf } from "../helpers/vcd/guest.ts";
import { PATIENCE_MS, startVcdSite, type VcdSite } from "../helpers/vcd/site.ts";
import { API_TOKEN, createVApp, NAMES, type VApp, type Vm } from "../helpers/vcd/world.ts";

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIILfmDBRaYyzEcjWzqYhKoeVhJ6UWb1RTQXhkKWUGwk+ a/b";
failOnLeaks();

describe("a machine at VMware Cloud Director", () => {
  let site: VcdSite;

  before(async () => {
    site = await startVcdSite({ withGuests: false });
  });
  after(() => site?.stop());

  const open = (more: Partial<VcdConfig> = {}): VcdCloud => new VcdCloud(site.config(more));
  const owner: Owner = { daemon: "by-itself", pool: "p" };
  let counter = 0;

  interface Made {
    id: string;
    address: MachineAddress;
    vapp: VApp;
    vm: Vm;
  }

  /** Makes a machine, lets `look` look at it, and removes it. */
  async function withMachine<T>(
    cloud: VcdCloud,
    look: (made: Made) => Promise<T> | T,
    given: { authorizedKey: string | undefined } = { authorizedKey: KEY },
  ): Promise<T> {
    const id = `fl-own${++counter}`;
    let data: MachineData = {};
    const signal = AbortSignal.timeout(PATIENCE_MS);
    try {
      const address = await cloud.create({
        id,
        owner,
        ...given,
        save: async (saved) => {
          data = saved;
        },
        phase: () => undefined,
        signal,
      });
      const vapp = site.vappOf(id);
      const [vm] = vapp?.vms ?? [];
      assert.ok(vapp !== undefined && vm !== undefined);
      return await look({ id, address, vapp, vm });
    } finally {
      await cloud.remove({ id, owner, data }, signal);
      await cloud.close();
      assert.equal(site.vappOf(id), undefined, "a vApp was left");
    }
  }

  const failure = async (cloud: VcdCloud): Promise<FleetingdError> => {
    const thrown: unknown = await withMachine(cloud, () => assert.fail("it was made")).catch(
      (error: unknown) => error,
    );
    assert.ok(thrown instanceof FleetingdError, String(thrown));
    return thrown;
  };

  test("a machine has the size, the disks, the network and the name that it should", async () => {
    await withMachine(open(), ({ id, address, vapp, vm }) => {
      assert.match(vapp.name, new RegExp(`^ci-[0-9a-f]{12}-${id}$`));
      assert.deepEqual([vm.name, textOf(vm.customization, "ComputerName")], [id, id]);
      assert.deepEqual(
        [vm.cpus, vm.cores, vm.memoryMb, vm.disks],
        [4, 2, 8_192, [{ id: "2000", sizeMb: 20_480 }]],
      );
      assert.equal(vm.storageProfile, NAMES.storageProfile);
      assert.deepEqual(vm.connection, { network: NAMES.network, mode: "POOL", address: address.address });
      assert.deepEqual([address.os, address.username, address.password], ["linux", "root", undefined]);
      assert.equal(
        textOf(vm.customization, "AdminPasswordAuto"),
        "true",
        "what the template says of passwords stays",
      );
    });
  });

  test("what is not configured is the template's", async () => {
    const none = {
      cpuCount: undefined,
      coresPerSocket: undefined,
      memoryMiB: undefined,
      diskGiB: undefined,
    };
    await withMachine(
      open({ ...none, storageProfile: undefined, ipAllocationMode: "DHCP" }),
      ({ vm, address }) => {
        assert.deepEqual([vm.cpus, vm.memoryMb, vm.storageProfile], [1, 1_024, "standard"]);
        assert.deepEqual([vm.connection?.mode, vm.connection?.address], ["DHCP", address.address]);
      },
    );
  });

  test("the key may be one for all, and another user's", async () => {
    const { privateKey, publicKey } = generateSshKeyPair("all");
    const sshKeyPath = join(site.directory, "key");
    await writeFile(sshKeyPath, privateKey);
    const cloud = open({ sshKeyPath, username: "o'ci" });
    const given = { authorizedKey: undefined };
    await withMachine(
      cloud,
      async ({ vm, address }) => {
        await waitFor(async () => guestOf(vm), {
          timeoutMs: PATIENCE_MS,
          intervalMs: 20,
          what: "the guest",
        });
        assert.equal(address.username, "o'ci");
        const key = publicKey.split(" ").slice(0, 2).join(" ");
        assert.deepEqual(vm.users, { username: "o'ci", authorizedKeys: [key] });
      },
      given,
    );
  });

  test("Windows has the key for its administrators, and a password of its own with WinRM", async () => {
    await withMachine(open({ template: NAMES.windows }), async ({ vm, address }) => {
      assert.deepEqual([address.os, address.username], ["windows", "Administrator"]);
      assert.match(
        textOf(vm.customization, "CustomizationScript") ?? "",
        /administrators_authorized_keys echo ssh-ed25519 \S+\+ a\/b\n/,
      );
    });
    await withMachine(open({ template: "windows-11" }), ({ vm }) => assert.equal(vm.tpm, true));
    const passwords = new Set<string>();
    for (const protocol of ["winrm", "winrm+https"] as const) {
      await withMachine(open({ template: NAMES.windows, protocol }), ({ vm, address }) => {
        assert.deepEqual([address.protocol, address.port], [protocol, protocol === "winrm" ? 5_985 : 5_986]);
        assert.equal(textOf(vm.customization, "AdminPassword"), address.password);
        passwords.add(address.password ?? "");
      });
    }
    assert.equal(passwords.size, 2);
  });

  test("a password that is one for all is set, from a file too, whatever characters it has", async () => {
    const password = `<&>"' ü]]>`;
    const path = join(site.directory, "password");
    await writeFile(path, `${password}\n`);
    for (const more of [{ adminPassword: password }, { adminPasswordFile: path }]) {
      await withMachine(open(more), ({ vm, address }) => {
        assert.equal(textOf(vm.customization, "AdminPassword"), password);
        assert.equal(address.password, password);
      });
    }
  });

  test("what is busy is asked again", async () => {
    site.steer({ operationLimit: 1, taskMs: 100 });
    await Promise.all([withMachine(open(), () => undefined), withMachine(open(), () => undefined)]);
    site.steer({});
    const body = buildXml("Error", {
      "@message": "The entity vm is busy completing an operation.",
      "@majorErrorCode": 400,
      "@minorErrorCode": "BUSY_ENTITY",
    });
    const steps = [/composeVApp$/, /reconfigureVm$/, /powerOn$/, /undeploy$/];
    for (const step of steps) site.director.failNext("POST", step, { status: 400, body });
    site.director.failNext("DELETE", /./, { status: 400, body });
    const from = site.director.requests.length;
    await withMachine(open(), () => undefined);
    const busy = site.director.requests.slice(from).filter((line) => line.endsWith(" 400"));
    assert.equal(busy.length, steps.length + 1);
  });

  test("what hangs is given up when it is to be deleted", async () => {
    site.steer({ hanging: "vappPowerOn" });
    const cloud = open();
    const patience = AbortSignal.timeout(PATIENCE_MS);
    const wanted = new AbortController();
    let data: MachineData = {};
    const creation = cloud.create({
      id: "fl-hangs",
      owner,
      authorizedKey: KEY,
      save: async (saved) => {
        data = saved;
      },
      phase: () => undefined,
      signal: AbortSignal.any([wanted.signal, patience]),
    });
    const rejected = assert.rejects(creation, { code: "CANCELLED" });
    const isHanging = async (): Promise<true | undefined> =>
      [...site.director.world.tasks.values()].some(
        ({ operation, status }) => operation === "vappPowerOn" && status === "running",
      ) || undefined;
    await waitFor(isHanging, { timeoutMs: PATIENCE_MS, intervalMs: 10, what: "it to hang" });
    wanted.abort();
    await rejected;
    assert.notEqual(site.vappOf("fl-hangs"), undefined);
    await cloud.remove({ id: "fl-hangs", owner, data }, patience);
    assert.equal(site.vappOf("fl-hangs"), undefined);
    await cloud.close();
    site.steer({});
  });

  test("a step that fails is told with the server's reason, and leaves nothing", async () => {
    for (const operation of ["vdcComposeVapp", "vappUpdateVm", "vappPowerOn"]) {
      site.steer({ broken: { operation, message: "the disk is on fire" } });
      const error = await failure(open());
      assert.equal(error.code, "HYPERVISOR_FAILED");
      assert.match(error.message, new RegExp(`did not make fl-own.*${operation}.*the disk is on fire`));
    }
    site.steer({ broken: { operation: "vdcComposeVapp", message: "Insufficient resources: storage" } });
    assert.equal((await failure(open())).code, "EXHAUSTED");
    site.steer({});
  });

  test("names that mean nothing there are told with those that do", async () => {
    const cases: [Partial<VcdConfig>, RegExp][] = [
      [
        { virtualDatacenter: "moon" },
        /no data center with the name "moon" \(virtual_datacenter\) There is "ci vdc"/,
      ],
      [{ network: "moon" }, /no network of ci vdc with the name "moon" \(network\) There is "ci-net"/],
      [{ storageProfile: "moon" }, /\(storage_profile\) There is "standard", "fast"/],
      [{ catalog: "moon" }, /\(catalog\) There is "templates"/],
      [{ template: "moon" }, /\(template\) There is "debian-12"/],
      [{ template: "pair" }, /has 2 VMs, and must have one/],
      [{ tokenFile: "/nonexistent", token: undefined }, /\/nonexistent \(token_file\) can't be read/],
    ];
    for (const [more, pattern] of cases) {
      const error = await failure(open(more));
      assert.equal(error.code, "INVALID_CONFIG", error.message);
      assert.match(`${error.message} ${error.hint ?? ""}`, pattern);
    }
    const unfinished = await failure(open({ template: "unfinished" }));
    assert.deepEqual([unfinished.code, /its status is 0/.test(unfinished.message)], ["UNAVAILABLE", true]);
  });

  test("a session is used for all, and got anew when it is refused; the token is in no error", async () => {
    const cloud = open();
    const list = () => cloud.list(owner, AbortSignal.timeout(PATIENCE_MS));
    const logins = () => site.director.requests.filter((line) => line.startsWith("POST /oauth/")).length;
    const start = logins();
    await Promise.all([list(), list(), list()]);
    assert.equal(logins() - start, 1);
    site.director.world.sessions.clear();
    await Promise.all([list(), list(), list()]);
    assert.equal(logins() - start, 2);
    site.director.world.tokens.clear();
    site.director.world.sessions.clear();
    await assert.rejects(list(), (error: FleetingdError) => {
      assert.match(error.message, /refuses the API token/);
      assert.equal(error.code, "PERMISSION");
      assert.ok(!JSON.stringify([error.message, error.hint, String(error.cause)]).includes(API_TOKEN));
      return true;
    });
    site.director.world.tokens.add(API_TOKEN);
    assert.deepEqual(await list(), []);
    await cloud.close();
  });

  test("a token that was exchanged for another is read from its file without a restart", async () => {
    const tokenFile = join(site.directory, "token");
    await writeFile(tokenFile, "old");
    const cloud = open({ token: undefined, tokenFile });
    const list = () => cloud.list(owner, AbortSignal.timeout(PATIENCE_MS));
    await assert.rejects(list(), { code: "PERMISSION" });
    await writeFile(tokenFile, `${API_TOKEN}\n`);
    assert.deepEqual(await list(), []);
    await cloud.close();
  });

  test("the provider logs in at an address of its own, and looks into all organizations", async () => {
    const cloud = open({ org: "System" });
    await withMachine(cloud, async ({ id }) => {
      const listed = await cloud.list(owner, AbortSignal.timeout(PATIENCE_MS));
      assert.deepEqual(listed, [{ id, state: "running" }]);
    });
    assert.ok(site.director.requests.includes("POST /oauth/provider/token 200"));
  });

  test("a server that nobody has signed is refused, unless that is wanted", async () => {
    const list = async (more: Partial<VcdConfig>): Promise<unknown> => {
      const cloud = open({ caCertificate: undefined, ...more });
      try {
        return await cloud.list(owner, AbortSignal.timeout(PATIENCE_MS));
      } finally {
        await cloud.close();
      }
    };
    await assert.rejects(list({}), { code: "UNAVAILABLE", hint: /certificate/ });
    assert.deepEqual(await list({ insecure: true }), []);
  });

  test("what the server says of pauses is kept to, and nothing is made twice", async () => {
    const compose = /composeVApp$/;
    site.director.failNext("POST", compose, { status: 429, headers: { "retry-after": "1" } });
    site.director.failNext("POST", compose, { status: 503, headers: { "retry-after": "1" } });
    site.director.failNext("GET", /^\/api\/task\//, { status: 502 });
    const from = site.director.requests.length;
    await withMachine(open(), () => undefined);
    const composed = site.director.requests.slice(from).filter((line) => line.includes("composeVApp"));
    assert.deepEqual(
      composed.map((line) => line.slice(-3)),
      ["429", "503", "201"],
    );
  });

  test("an answer that got lost leaves a vApp that is found again by its name", async () => {
    const cloud = open();
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const name = await withMachine(cloud, ({ vapp }) => vapp.name);
    const [prefix = ""] = name.split("-fl-own");
    const lost = createVApp(
      `${prefix}-fl-lost`,
      "[fleetingd-daemon=by-itself fleetingd-pool=p fleetingd-instance=fl-lost]",
    );
    lost.state = "failed";
    site.director.world.vapps.push(lost);
    const again = open();
    assert.deepEqual(await again.list(owner, signal), [
      { id: "fl-lost", state: "gone", reason: "its status is FAILED_CREATION" },
    ]);
    await again.remove({ id: "fl-lost", owner, data: { name: `${prefix}-fl-lost` } }, signal);
    assert.deepEqual(await again.list(owner, signal), []);
    await again.close();
  });

  test("a machine that was powered off is gone, and so says its status", async () => {
    const cloud = open();
    await withMachine(cloud, async ({ id, vm }) => {
      vm.state = "off";
      const listed = await cloud.list(owner, AbortSignal.timeout(PATIENCE_MS));
      assert.deepEqual(listed, [{ id, state: "gone", reason: "its status is POWERED_OFF" }]);
    });
  });
});
