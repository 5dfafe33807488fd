/** The daemon's host as one that is reached by SSH, as the user `ci`, who may use libvirt there and has a password at first. */
import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findProgram, removeTree } from "../../../src/host/files.ts";
import type { LibvirtServer } from "../libvirt-server.ts";
import { SSH_USER_PASSWORD } from "./install.ts";

export interface SshAccess {
  /** By that name docs/libvirt.md calls the daemon's host. */
  host: string;
  /** An empty folder for keys. */
  directory: string;
  /** Has an `ssh` that finds the host by the name in the how-to: to be put before PATH. */
  programs: string;
  /** Of somebody at a terminal: ssh's questions are answered. */
  env: Readonly<Record<string, string>>;
  remove(): Promise<void>;
}

const HOST = "rack7.example.org";
/** `sessionDirectory`, as it is called there; the systemd of a real host makes one for each user. */
const SESSION = "/var/lib/libvirt/session";
const SSHD = `/usr/sbin/sshd -f /dev/null -o ListenAddress=127.0.0.1 -o UsePAM=no -o SetEnv=XDG_RUNTIME_DIR=${SESSION}`;

/** The SSH server ends with the daemon's namespaces. */
export async function openSshAccess(server: LibvirtServer): Promise<SshAccess> {
  const ssh = await findProgram("ssh");
  if (ssh === undefined) throw new Error("no ssh: run scripts/setup test");
  const directory = await mkdtemp(join(tmpdir(), "ssh-access-"));
  const [home, programs, keys] = ["home", "programs", "keys"].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  for (const path of [home, programs, keys, join(home, ".ssh")]) await mkdir(path);
  const config = join(directory, "config");
  await writeFile(
    config,
    `Host ${HOST}\n  HostName 127.0.0.1\n  UserKnownHostsFile ${directory}/known_hosts\n`,
  );
  await writeFile(join(programs, "ssh"), `#!/bin/sh\nexec ${ssh} -F ${config} "$@"\n`, { mode: 0o755 });
  const answers = join(directory, "answers");
  await writeFile(
    answers,
    `#!/bin/sh\ncase $1 in *yes/no*) echo yes ;; *) echo ${SSH_USER_PASSWORD.text} ;; esac\n`,
    { mode: 0o755 },
  );
  // Anybody may open it where udev has made it.
  await server.inside("umount /dev/net/tun && rm /dev/net/tun && mknod -m 666 /dev/net/tun c 10 200");
  await server.inside(
    `mkdir -p /run/sshd /home && install -d -o ci -g ci /home/ci && install -d -o ci -m 700 ${SESSION}`,
  );
  await server.inside(`ssh-keygen -q -A && ${SSHD}`);
  return {
    host: HOST,
    directory: keys,
    programs,
    env: { HOME: home, SSH_ASKPASS: answers, SSH_ASKPASS_REQUIRE: "force" },
    remove: () => removeTree(directory),
  };
}
