#!/usr/bin/env node
/**
 * Stand-in for `cloud-hypervisor`: a process with its REST API and its state machine, and instead of a guest a few lines that say
 * what the guest of tiny-guest.ts would say. What it refuses, and in which words, was compared with a build of the real one
 * (see openapi.yaml beside it, and parity-cloud-hypervisor.test.ts); what a guest makes of its machine it can't show.
 *
 * Every request is noted in `requests.log` in its working directory, for the check against the API's description.
 */
import {
  appendFileSync,
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:http";
import { createServer as createConnectionServer } from "node:net";
import { totalmem } from "node:os";
import { join } from "node:path";

const VERSION = process.env.STAND_IN_VMM_VERSION ?? "54.0.0";
const MAX_CONNECTIONS = 10;
const BOOT_MS = 100;
const NOTHING = ["Error from API"];
const startedAt = Date.now();

const options = parseArguments(process.argv.slice(2));
writeFileSync(options.events, "");
event("vmm", "starting");

let config;
let state = "None";
const timers = [];
const held = [];

const server = createServer({ keepAlive: true }, (request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks).toString();
    const name = request.url.replace("/api/v1/", "");
    const call = `${request.method} ${name}`;
    appendFileSync("requests.log", `${JSON.stringify({ method: request.method, name, body })}\n`);
    if (request.headers["transfer-encoding"] !== undefined)
      return answer(response, 400, '{ "error": "Invalid\nbody" }');
    try {
      const handler = HANDLERS[call];
      if (handler === undefined) throw new Refusal(404, ["Not Found"]);
      const result = handler(body);
      if (result === undefined) answer(response, 204);
      else answer(response, 200, result);
      if (name === "vmm.shutdown") end(0);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      answer(response, error.status, JSON.stringify(error.reasons));
    }
  });
});
server.on("connection", (socket) => {
  server.getConnections((_, count) => {
    if (count > MAX_CONNECTIONS)
      socket.end(
        'HTTP/1.1 503\r\nConnection: close\r\nContent-Length: 40\r\n\r\n{ "error": "Too many open connections" }',
      );
  });
});
server.keepAliveTimeout = 0;
if (existsSync(options.socket)) unlinkSync(options.socket);
server.listen(options.socket);
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => end(0));

class Refusal extends Error {
  constructor(status, reasons) {
    super(reasons.join(": "));
    Object.assign(this, { status, reasons });
  }
}

const HANDLERS = {
  "GET vmm.ping": () =>
    JSON.stringify({
      build_version: `v${VERSION}`,
      version: VERSION,
      pid: process.pid,
      features: ["io_uring", "kvm"],
    }),
  "GET vm.info": () => {
    if (config === undefined) refuse(404, "The VM info is not available", "VM is not created");
    const size = memoryBytes();
    return JSON.stringify({
      config,
      state,
      memory_actual_size: size - (config.balloon?.size ?? 0),
      device_tree: null,
    });
  },
  "PUT vm.create": (body) => {
    if (body === "") throw new Refusal(400, [""]);
    const wanted = parseBody(body);
    if (config !== undefined) refuse(500, "The VM could not be created", "VM is already created");
    config = wanted;
    state = "Created";
    // It forgets nothing of a configuration that it refuses; only the sandbox is missing.
    if (config.landlock_enable && existsSync("/run/fleetingd-test-no-landlock"))
      refuse(500, "The VM could not be created", "Failed to apply landlock config during vm_create");
  },
  "PUT vm.boot": noBody(() => {
    if (state === "Running" || state === "Paused")
      refuse(500, "The VM could not boot", "VM is already created");
    event("vm", "booting");
    if (config === undefined) refuse(404, "The VM could not boot", "VM config is missing");
    openAll("The VM could not boot");
    state = "Running";
    event("vm", "booted");
    bootGuest();
  }),
  "PUT vm.pause": noBody(() => {
    if (state === "None" || state === "Created")
      refuse(500, "The VM could not be paused", "VM is not running");
    if (state === "Paused")
      refuse(
        500,
        "The VM could not be paused",
        "Cannot pause VM",
        "Failed to pause migratable component",
        "Invalid transition: InvalidStateTransition(Paused, Paused)",
      );
    event("vm", "pausing");
    state = "Paused";
    event("vm", "paused");
  }),
  "PUT vm.resume": noBody(() => {
    if (state === "None" || state === "Created") refuse(500, "The VM could not resume", "VM is not running");
    if (state === "Running")
      refuse(
        500,
        "The VM could not resume",
        "Cannot resume VM",
        "Failed to resume migratable component",
        "Invalid transition: InvalidStateTransition(Running, Running)",
      );
    event("vm", "resuming");
    state = "Running";
    event("vm", "resumed");
    for (const late of timers.splice(0)) late();
  }),
  "PUT vm.power-button": noBody(() => {
    if (state === "None" || state === "Created")
      refuse(500, "Error triggering power button", "VM is not running");
    later(() => {
      if (word("button") === "ignore") return;
      say("tiny: power button");
      end(0);
    }, 0);
  }),
  "PUT vm.resize": (body) => {
    const { desired_balloon } = parseBody(body);
    if (config === undefined) refuse(404, "The VM could not be resized", "VM is not created");
    if (config.balloon === undefined || config.balloon === null)
      refuse(
        500,
        "The VM could not be resized",
        "Error from device manager",
        "Missing virtio-balloon, can't proceed as expected",
      );
    config.balloon.size = desired_balloon;
  },
  "PUT vm.remove-device": (body) => {
    const { id } = parseBody(body);
    if (config?.vsock?.id !== id)
      refuse(
        404,
        "The device could not be removed from the VM",
        "Error from device manager",
        `Device id '${id}' unknown`,
      );
    delete config.vsock;
  },
  "PUT vm.snapshot": (body) => {
    const folder = parseBody(body).destination_url.replace("file://", "");
    if (state === "None" || state === "Created")
      refuse(500, "The VM could not be snapshotted", "VM is not running");
    event("vm", "snapshotting");
    if (state !== "Paused")
      refuse(
        500,
        "The VM could not be snapshotted",
        "Cannot snapshot VM",
        "Failed to snapshot migratable component",
        "Trying to snapshot while VM is running",
      );
    if (!mayWrite(folder))
      refuse(
        500,
        "The VM could not be snapshotted",
        "Cannot send VM snapshot",
        "Failed to send migratable component snapshot",
        "Permission denied (os error 13)",
      );
    for (const [name, content] of [
      ["config.json", config],
      ["state.json", { booted: true }],
    ]) {
      try {
        writeFileSync(join(folder, name), JSON.stringify(content), { flag: "wx" });
      } catch (error) {
        refuse(
          500,
          "The VM could not be snapshotted",
          "Cannot send VM snapshot",
          "Failed to send migratable component snapshot",
          reason(error),
        );
      }
    }
    event("vm", "snapshotted");
  },
  "PUT vm.restore": (body) => {
    const { source_url, resume } = parseBody(body);
    if (config !== undefined) refuse(500, "The VM could not be restored", "VM is already created");
    const folder = source_url.replace("file://", "");
    try {
      config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
      JSON.parse(readFileSync(join(folder, "state.json"), "utf8"));
    } catch (error) {
      config = undefined;
      refuse(
        500,
        "The VM could not be restored",
        "Cannot restore VM",
        "Failed to receive migratable component snapshot",
        reason(error),
      );
    }
    try {
      openAll("The VM could not be restored");
    } catch (error) {
      config = undefined;
      throw error;
    }
    event("vm", "restored");
    state = resume ? "Running" : "Paused";
  },
  "PUT vmm.shutdown": noBody(() => {
    event("vmm", "shutdown");
    return "";
  }),
};

function noBody(action) {
  return (body) => {
    if (body !== "") throw new Refusal(400, ["Bad Request"]);
    return action();
  };
}

function parseBody(body) {
  if (body === "") throw new Refusal(400, ["Bad Request"]);
  try {
    return JSON.parse(body);
  } catch (error) {
    throw new Refusal(400, ["Failed to deserialize JSON", error.message]);
  }
}

function refuse(status, ...reasons) {
  throw new Refusal(status, [...NOTHING, ...reasons]);
}

/** All that a VM needs, in the order and with the words of the real one. */
function openAll(what) {
  if (memoryBytes() > 1024 * totalmem())
    refuse(
      500,
      what,
      "Memory manager error",
      "Failed to create memory region",
      "Cannot allocate memory (os error 12)",
    );
  const { kernel, initramfs } = config.payload;
  for (const zone of config.memory.zones ?? []) {
    open(zone.file, zone.shared ? "r+" : "r", what, "Memory manager error");
    // The kernel's answer to a page beyond the file's end, which the real one writes to at once.
    if (statSync(zone.file).size < zone.size) process.kill(process.pid, "SIGBUS");
  }
  open(kernel, "r", what, "Cannot open kernel file");
  if (initramfs) open(initramfs, "r", what, "Cannot open initramfs file");
  for (const disk of config.disks ?? []) openDisk(disk, what);
  if (config.vsock) openVsock(config.vsock);
  for (const { tap } of config.net ?? []) {
    if (!hold(`tap-${tap}`))
      refuse(
        500,
        what,
        "Error from device manager",
        "Cannot create virtio-net device",
        `Failed to open taps: ${tap}`,
        "Resource busy (os error 16)",
      );
  }
}

/** A guest that listens on every port and says nothing. */
function openVsock({ socket }) {
  createConnectionServer((connection) => {
    connection.on("error", () => undefined);
    connection.once("data", (data) => {
      if (/^CONNECT \d+\n/.test(String(data))) connection.write("OK 1073741824\n");
      else connection.destroy();
    });
  }).listen(socket);
}

function openDisk(disk, what) {
  const file = open(
    disk.path,
    disk.readonly ? "r" : "r+",
    what,
    "Error from device manager",
    "Cannot open disk path",
  );
  const magic = Buffer.alloc(4);
  readSync(file, magic, 0, 4, 0);
  closeSync(file);
  if (disk.image_type === "Qcow2" && magic.toString("latin1") !== "QFI\xfb")
    refuse(500, what, "Error from device manager", "Failed to parse disk image", "Invalid magic");
  if (!disk.readonly && !hold(statSync(disk.path).ino))
    refuse(
      500,
      what,
      "Error locking disk images: Another instance likely holds a lock",
      "Cannot lock images of all block devices",
      `Failed to get Write lock for disk image: ${disk.path}`,
      "The file is already locked",
    );
}

function open(path, flags, what, ...reasons) {
  try {
    return openSync(path, flags);
  } catch (error) {
    return refuse(500, what, ...reasons, `${path}: ${reason(error)}`);
  }
}

function reason(error) {
  if (error.code === "ENOENT") return "No such file or directory (os error 2)";
  if (error.code === "EEXIST") return "File exists (os error 17)";
  return `${error.message} (os error ${-(error.errno ?? 0)})`;
}

/** Whether this process is the only one that has it. */
function hold(key) {
  const path = join(process.env.STAND_IN_VMM_LOCKS, String(key));
  if (existsSync(path) && existsSync(`/proc/${readFileSync(path, "utf8")}`)) return false;
  writeFileSync(path, String(process.pid));
  held.push(path);
  return true;
}

function bootGuest() {
  later(() => {
    say(`tiny: cpus=${config.cpus.boot_vcpus} memory=${Math.round((memoryBytes() / 1024) * 0.9)}`);
    say(`tiny: cmdline=${config.payload.cmdline}`);
    for (const [index, disk] of (config.disks ?? []).entries()) useDisk(disk, `vd${"abcdef"[index]}`);
    for (const [index, { mac }] of (config.net ?? []).entries()) say(`tiny: nic eth${index} mac=${mac}`);
    say("tiny: ready");
    const then = word("then");
    if (then === "poweroff") end(0);
    if (then === "reboot") {
      event("vm", "rebooting");
      bootGuest();
      event("vm", "rebooted");
    }
    if (then === "panic" && config.pvpanic) event("guest", "panic", { event: "panic" });
  }, BOOT_MS);
}

function useDisk(disk, name) {
  const file = openSync(disk.path, disk.readonly ? "r" : "r+");
  const text = Buffer.alloc(8);
  readSync(file, text, 0, 8, 0);
  say(
    `tiny: disk ${name} serial=${disk.serial} sectors=${statSync(disk.path).size / 512} ro=${disk.readonly ? 1 : 0} text=${text.toString("latin1").replaceAll("\0", "")}`,
  );
  try {
    if (!disk.readonly && disk.image_type === "Raw") writeSync(file, "written", 512);
  } catch (error) {
    const shown = `Os { code: ${-error.errno}, kind: StorageFull, message: "No space left on device" }`;
    process.stderr.write(
      `cloud-hypervisor: 1.0s: <_disk0_q0> WARN:virtio-devices/src/block.rs:605 -- Request failed: Request { request_type: Out } ${shown}\n`,
    );
  }
  closeSync(file);
}

/** A paused guest does nothing until it goes on. */
function later(action, ms) {
  setTimeout(() => {
    if (state === "Paused") timers.push(action);
    else action();
  }, ms);
}

function say(line) {
  writeSync(1, `${line}\r\n`);
}

function word(name) {
  return new RegExp(`tiny\\.${name}=([a-z]*)`).exec(config.payload.cmdline)?.[1];
}

function memoryBytes() {
  return config.memory.size + (config.memory.zones ?? []).reduce((sum, zone) => sum + zone.size, 0);
}

function event(source, name, properties = null) {
  const ms = Date.now() - startedAt;
  const timestamp = { secs: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 };
  appendFileSync(
    options.events,
    `${JSON.stringify({ timestamp, source, event: name, properties }, null, 2)}\n\n`,
  );
}

function answer(response, status, body = "") {
  response.writeHead(status, " ", {
    Server: "Cloud Hypervisor API",
    ...(status === 204
      ? {}
      : { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) }),
  });
  response.end(body);
}

/** Its sandbox knows a folder only by the rules of the VM's configuration. */
function mayWrite(folder) {
  if (!config.landlock_enable) return true;
  const rules = config.landlock_rules ?? [];
  return rules.some(({ path, access }) => access === "rw" && `${folder}/`.startsWith(`${path}/`));
}

function end(code) {
  setImmediate(() => {
    for (const path of held) rmSync(path, { force: true });
    for (const path of [options.socket, config?.vsock?.socket])
      if (path && existsSync(path)) removeSocket(path);
    process.exit(code);
  });
}

/** One in a folder where it may not is left, as by the real one. */
function removeSocket(path) {
  try {
    unlinkSync(path);
  } catch (error) {
    if (error.code !== "EACCES") throw error;
  }
}

function parseArguments(words) {
  const value = (name) => words[words.indexOf(name) + 1] ?? "";
  return {
    socket: value("--api-socket").replace(/^path=/, ""),
    events: value("--event-monitor").replace(/^path="(.*)"$/, "$1"),
  };
}
