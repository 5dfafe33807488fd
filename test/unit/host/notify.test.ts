import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { notifySystemd, watchdogTimeoutMs } from "../../../src/host/notify.ts";
import { needsPrograms } from "../../helpers/namespace.ts";

// Says when it listens, then prints one datagram.
const RECEIVER = `
  use IO::Socket::UNIX; use Socket; $| = 1;
  my $socket = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]) or die "no socket: $!";
  print "listening\\n"; $socket->recv(my $text, 4096); print "$text\\n";
`;

describe("the notification of systemd", async () => {
  test("arrives at the socket that systemd names", {
    skip: await needsPrograms("systemd-notify", "perl"),
  }, async () => {
    const directory = await mkdtemp(join(tmpdir(), "fleetingd-notify-"));
    const socket = join(directory, "notify");
    const receiver = spawn("perl", ["-e", RECEIVER, socket], { stdio: ["ignore", "pipe", "inherit"] });
    const closed = once(receiver, "close");
    try {
      let received = "";
      receiver.stdout.on("data", (chunk) => {
        received += String(chunk);
      });
      await once(receiver.stdout, "data");
      process.env["NOTIFY_SOCKET"] = socket;
      await notifySystemd("READY=1", "STATUS=two VMs");
      await closed;
      assert.equal(received, "listening\nREADY=1\nSTATUS=two VMs\n");
    } finally {
      delete process.env["NOTIFY_SOCKET"];
      receiver.kill();
      await rm(directory, { recursive: true });
    }
  });

  test("is left out without systemd", async () => {
    assert.equal(process.env["NOTIFY_SOCKET"], undefined);
    await notifySystemd("READY=1");
  });
});

describe("the watchdog's timeout", () => {
  test("is in microseconds in the environment", () => {
    assert.equal(watchdogTimeoutMs({ WATCHDOG_USEC: "120000000" }, 7), 120_000);
    assert.equal(watchdogTimeoutMs({ WATCHDOG_USEC: "120000000", WATCHDOG_PID: "7" }, 7), 120_000);
  });

  test("does not concern a process that systemd does not watch", () => {
    assert.equal(watchdogTimeoutMs({}, 7), undefined);
    assert.equal(watchdogTimeoutMs({ WATCHDOG_USEC: "0" }, 7), undefined);
    assert.equal(watchdogTimeoutMs({ WATCHDOG_USEC: "120000000", WATCHDOG_PID: "6" }, 7), undefined);
  });
});
