/**
 * A preload for the daemon under test: it stands between the daemon and the host, from outside.
 *
 * Every change that the daemon makes to its host (a file written, renamed, removed; a program started; a signal; a command
 * to a hypervisor) has a boundary before it and one after it. From the moment that SIGUSR2 arrives they are counted:
 *
 *     FLEETINGD_ARMED=1                they are from the beginning
 *     FLEETINGD_BOUNDARY_LOG=FILE      each is written there, one a line
 *     FLEETINGD_CRASH_AT=LABEL#TIMES   SIGKILL at the boundary of this label when it comes for the n-th time; or
 *     FLEETINGD_CRASH_AT=N             at the n-th of all
 *     FLEETINGD_FAULTS=FOLDER          while its file `disk` says `slow`, every change of a file takes 100 ms
 *
 * Nothing in the daemon knows of it, so a new step has its boundaries by itself.
 */
import childProcess from "node:child_process";
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import net from "node:net";

const {
  FLEETINGD_BOUNDARY_LOG: logPath,
  FLEETINGD_CRASH_AT: crashAt,
  FLEETINGD_FAULTS: faults,
} = process.env;
const { appendFileSync, readFileSync } = fs;
const kill = process.kill.bind(process);
const SLOW_MS = 100;
const WRITING = /[wa+]/;

let armed = process.env["FLEETINGD_ARMED"] === "1";
let total = 0;
const times = new Map();
if (logPath !== undefined) {
  process.on("SIGUSR2", () => {
    armed = true;
    appendFileSync(logPath, "");
  });
}

function boundary(label) {
  if (!armed) return;
  total += 1;
  const count = (times.get(label) ?? 0) + 1;
  times.set(label, count);
  if (logPath !== undefined) appendFileSync(logPath, `${label}#${count}\n`);
  if (crashAt === `${label}#${count}` || crashAt === String(total)) kill(process.pid, "SIGKILL");
}

/** The same for every instance: what is different each time is replaced by what it is. */
function normalize(text) {
  return String(text)
    .replace(/fl-[a-z0-9]{12}/g, "ID")
    .replace(/fltap[0-9a-f]{8}/g, "TAP")
    .replace(/\b\d+\.\d+\.\d+\.\d+(\/\d+)?\b/g, "ADDRESS")
    .replace(/\.lock\.\d+/g, ".lock.PID")
    .replace(/\b[0-9a-f]{16}\b/g, "IMAGE")
    .replace(/\.[0-9a-f]{12}\.tmp\b/g, ".TMP")
    .replace(/(seed\.iso)\.[A-Za-z0-9]{6}\b/g, "$1.XXXXXX")
    .replace(/(\/[^/ ]+)+(\/[^/ ]+\/[^/ ]+)/g, "…$2");
}

function isSlow() {
  if (faults === undefined) return false;
  try {
    return readFileSync(`${faults}/disk`, "utf8").trim() === "slow";
  } catch {
    return false;
  }
}

async function around(label, work) {
  boundary(`before ${label}`);
  if (isSlow()) await new Promise((resolve) => setTimeout(resolve, SLOW_MS));
  try {
    return await work();
  } finally {
    boundary(`after ${label}`);
  }
}

const { promises } = fs;
for (const name of [
  ...["appendFile", "chmod", "chown", "copyFile", "cp", "link", "mkdir", "mkdtemp", "rename", "rm", "rmdir"],
  ...["symlink", "truncate", "unlink", "utimes", "writeFile"],
]) {
  const original = promises[name];
  promises[name] = (...args) => around(`${name} ${normalize(args[0])}`, () => original.apply(promises, args));
}

const pathOf = new WeakMap();
const open = promises.open;
promises.open = async (path, flags = "r", ...rest) => {
  const work = () => open(path, flags, ...rest);
  const handle = WRITING.test(String(flags)) ? await around(`open ${normalize(path)}`, work) : await work();
  pathOf.set(handle, normalize(path));
  return handle;
};
const sample = await open("/dev/null", "r");
const handlePrototype = Object.getPrototypeOf(sample);
await sample.close();
for (const name of ["appendFile", "chmod", "datasync", "sync", "truncate", "write", "writeFile"]) {
  const original = handlePrototype[name];
  handlePrototype[name] = function (...args) {
    return around(`${name} in ${pathOf.get(this) ?? "a file"}`, () => original.apply(this, args));
  };
}

const spawn = childProcess.spawn;
childProcess.spawn = (file, ...rest) => {
  const program = String(file).slice(String(file).lastIndexOf("/") + 1);
  const words = Array.isArray(rest[0]) ? rest[0] : [];
  // A hypervisor's arguments would fill a page, and no two VMs have the same.
  const isHypervisor = [file, ...words].some((word) => /\/qemu-system-\w+$/.test(word));
  const label = isHypervisor ? "the hypervisor" : normalize([program, ...words].join(" "));
  boundary(`before the start of ${label}`);
  const child = spawn(file, ...rest);
  boundary(`after the start of ${label}`);
  child.once("exit", () => boundary(`after the end of ${label}`));
  return child;
};

process.kill = (pid, signal) => {
  if (signal === 0) return kill(pid, 0);
  boundary(`before ${signal}`);
  const done = kill(pid, signal);
  boundary(`after ${signal}`);
  return done;
};

const write = net.Socket.prototype.write;
net.Socket.prototype.write = function (data, ...rest) {
  const command = typeof data === "string" ? /^\{"execute":"(?!query-)([\w-]+)"/.exec(data)?.[1] : undefined;
  if (command === undefined) return write.call(this, data, ...rest);
  boundary(`before the command ${command}`);
  const done = write.call(this, data, ...rest);
  boundary(`after the command ${command}`);
  return done;
};

syncBuiltinESMExports();
