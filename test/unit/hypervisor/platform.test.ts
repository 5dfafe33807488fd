import assert from "node:assert/strict";
import { test } from "node:test";
import { newestMachine, parseVersion } from "../../../src/hypervisor/qemu/platform.ts";

const HELP = `Supported machines are:
microvm              microvm (i386)
ubuntu               Ubuntu 24.04 PC (i440FX + PIIX, + 10:1 wrap) (alias of pc-i440fx-noble)
pc-q35-noble         Ubuntu 24.04 PC v1 (Q35 + ICH9, 2009)
q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-10.0)
pc-q35-9.2           Standard PC (Q35 + ICH9, 2009)
pc-q35-10.0          Standard PC (Q35 + ICH9, 2009)
pc-q35-4.0.1         Standard PC (Q35 + ICH9, 2009) (deprecated)
pc-i440fx-11.0       Standard PC (i440FX + PIIX, 1996)
`;

test("the newest versioned machine type is taken, by number and not by letter", () => {
  assert.equal(newestMachine(HELP, "pc-q35-"), "pc-q35-10.0");
  assert.equal(newestMachine(HELP, "virt-"), undefined);
});

test("the version is read out of QEMU's banner", () => {
  assert.equal(parseVersion("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright"), "7.2.22");
  assert.equal(parseVersion("nonsense"), "of unknown version");
});
