/** What VMware Tools do in a machine at its first boot: Linux's script is really run, by a shell of this host in a folder of its own. */
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { readTextIfExists } from "../../../src/host/files.ts";
import { run } from "../../../src/host/run.ts";
import { textOf } from "../../../src/sources/vcd/xml.ts";
import type { Guest } from "../guests.ts";
import type { Vm } from "./world.ts";

const SCRIPT_TIMEOUT_MS = 30_000;

/** Who may log in to it; undefined while it does not run. */
export function guestOf(vm: Vm): Guest | undefined {
  if (vm.state !== "on" || performance.now() < vm.upAt || vm.customized !== "complete") return undefined;
  const { customization, users } = vm;
  const own = textOf(customization, "AdminPasswordAuto") === "false";
  return {
    ...users,
    password: own ? textOf(customization, "AdminPassword") : undefined,
  };
}

/** @param onUp when the guest is up, and asks for an address */
export async function bootGuest(vm: Vm, bootMs: number, onUp: () => void): Promise<void> {
  await delay(bootMs);
  onUp();
  if (vm.customized === "complete" || textOf(vm.customization, "Enabled") !== "true") return;
  const script = textOf(vm.customization, "CustomizationScript");
  if (script !== undefined) {
    const customize = vm.osType.startsWith("win") ? windowsUsers : linuxUsers;
    vm.users = (await customize(script)) ?? vm.users;
  }
  vm.customized = "complete";
}

async function linuxUsers(script: string): Promise<Vm["users"] | undefined> {
  const home = await mkdtemp(join(tmpdir(), "vcd-guest-"));
  try {
    const bin = join(home, "bin");
    await mkdir(bin);
    // Of its users and their files this host is nobody's guest.
    const programs = {
      getent: `#!/bin/sh\n[ "$1" = passwd ] && echo "$2:x:0:0::${home}:/bin/sh" | tee "${home}/asked"\n`,
      chown: "#!/bin/sh\nexit 0\n",
      restorecon: "#!/bin/sh\nexit 0\n",
    };
    for (const [name, text] of Object.entries(programs)) {
      await writeFile(join(bin, name), text);
      await chmod(join(bin, name), 0o755);
    }
    const file = join(home, "customize");
    await writeFile(file, `${script}\n`);
    for (const stage of ["precustomization", "postcustomization"]) {
      await run("/usr/bin/env", ["-i", `PATH=${bin}:/usr/bin:/bin`, `HOME=${home}`, "/bin/sh", file, stage], {
        timeoutMs: SCRIPT_TIMEOUT_MS,
      });
    }
    const keys = await readTextIfExists(join(home, ".ssh", "authorized_keys"));
    const [username = ""] = (await readTextIfExists(join(home, "asked")))?.split(":") ?? [];
    return keys === undefined ? undefined : { username, authorizedKeys: keys.trim().split("\n") };
  } finally {
    await rm(home, { recursive: true });
  }
}

async function windowsUsers(script: string): Promise<Vm["users"] | undefined> {
  const [, key] = /^>> C:\\ProgramData\\ssh\\administrators_authorized_keys echo (.+)$/m.exec(script) ?? [];
  return key === undefined ? undefined : { username: "Administrator", authorizedKeys: [key] };
}
