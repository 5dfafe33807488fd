/**
 * A folder for the front of PATH: a stand-in for QEMU (test/helpers/stand-in-vm), whose guests answer within milliseconds,
 * and wrappers around the programs of the host, which fail when a test wants them to.
 */
import { copyFile, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { platformOf } from "../../src/hypervisor/qemu/platform.ts";
import { GO_BUILD_TIMEOUT_MS, GO_ENV } from "./go-tests.ts";

const SOURCE = fileURLToPath(new URL("stand-in-vm", import.meta.url));
const BUILT = fileURLToPath(new URL("../../node_modules/.cache/fleetingd/stand-in-vm", import.meta.url));
const WRAPPED = ["conntrack", "cp", "genisoimage", "ip", "nft", "qemu-img"] as const;

/** A program whose runs can be made to fail, or what else can go wrong. */
export type FaultPoint = (typeof WRAPPED)[number] | "hypervisor" | "disk";
/** What befalls it: programs `fail` or are `slow`, a hypervisor ends at once (`exit`), soon (`die`), never answers (`hang`), is `full` … */
export type Fault = "fail" | "slow" | "exit" | "die" | "hang" | "mute" | "stuck" | "full";

export interface Programs {
  /** For the environment of the daemon under test. */
  readonly path: string;
  /** The stand-in, as the processes of its VMs are named. */
  readonly hypervisor: string;
  /** Where the faults are that hold at the moment, for `side-effects.mjs`. */
  readonly faults: string;
  /** From now on; undefined: no more. */
  setFault(point: FaultPoint, fault: Fault | undefined): Promise<void>;
}

/** A stand-in's guest has a network namespace of its own, which takes the capabilities that QEMU is stripped of. */
const SETPRIV = `#!/bin/sh
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
`;

/** Compiles both programs; needs the network once, for the modules. */
export async function buildStandInVm(): Promise<{ hypervisor: string; faultyProgram: string }> {
  await mkdir(BUILT, { recursive: true });
  await execa("go", ["build", "-ldflags=-s -w", "-o", `${BUILT}/`, "./..."], {
    cwd: SOURCE,
    env: { ...GO_ENV, CGO_ENABLED: "0" },
    timeout: GO_BUILD_TIMEOUT_MS,
  });
  return { hypervisor: join(BUILT, "stand-in-vm"), faultyProgram: join(BUILT, "faulty-program") };
}

/** @param kind `QEMU`: only the host's programs are wrapped, and QEMU is the real one */
export async function createPrograms(
  folder: string,
  kind: "QEMU" | "stand-in" = "stand-in",
): Promise<Programs> {
  const [bin, faults] = [join(folder, "bin"), join(folder, "faults")];
  for (const directory of [bin, faults]) await mkdir(directory, { recursive: true });
  const hypervisor = join(bin, platformOf().program);
  const built = await buildStandInVm();
  if (kind === "stand-in") {
    await copyFile(built.hypervisor, hypervisor);
    await writeFile(join(bin, "setpriv"), SETPRIV, { mode: 0o755 });
  }
  // No links: each knows by its own file which program it is, and the folder may be in another root.
  for (const name of WRAPPED) await copyFile(built.faultyProgram, join(bin, name));
  return {
    path: `${bin}:${process.env["PATH"]}`,
    hypervisor,
    faults,
    async setFault(point, fault) {
      if (fault === undefined) await rm(join(faults, point), { force: true });
      else await writeFile(join(faults, point), fault);
    },
  };
}
