/** What a machine is told for its first boot: guest customization, which VMware Tools do in Linux and in Windows. */
import type { XmlNode } from "./xml.ts";

export interface Guest {
  isWindows: boolean;
  computerName: string;
  /** Whose key it is, in Linux. */
  username: string;
  /** `ssh-ed25519 AAAA…`; undefined: the image has one. */
  authorizedKey: string | undefined;
  /** Of `root` or `Administrator`; undefined: as the template has it. */
  adminPassword: string | undefined;
}

/** In the order of the interface's schema. What stands here only is kept as the template has it. */
const ELEMENTS = [
  "ovf:Info",
  "Enabled",
  "ChangeSid",
  "VirtualMachineId",
  "JoinDomainEnabled",
  "UseOrgSettings",
  "DomainName",
  "DomainUserName",
  "DomainUserPassword",
  "MachineObjectOU",
  "AdminPasswordEnabled",
  "AdminPasswordAuto",
  "AdminPassword",
  "AdminAutoLogonEnabled",
  "AdminAutoLogonCount",
  "ResetPasswordRequired",
  "CustomizationScript",
  "ComputerName",
] as const;

/** @param section The machine's own, which came from the template. */
export function customizationSection(section: XmlNode | undefined, guest: Guest): XmlNode {
  const { adminPassword, authorizedKey, isWindows, username } = guest;
  const wanted: Readonly<Record<string, unknown>> = {
    "ovf:Info": "Specifies Guest OS Customization Settings",
    Enabled: true,
    ...(isWindows ? { ChangeSid: true } : {}),
    ...(adminPassword === undefined
      ? {}
      : { AdminPasswordEnabled: true, AdminPasswordAuto: false, AdminPassword: adminPassword }),
    ResetPasswordRequired: false,
    ...(authorizedKey === undefined
      ? {}
      : {
          CustomizationScript: isWindows
            ? windowsScript(authorizedKey)
            : linuxScript(authorizedKey, username),
        }),
    ComputerName: guest.computerName,
  };
  return Object.fromEntries(ELEMENTS.map((name) => [name, wanted[name] ?? section?.[name]]));
}

/** VMware Tools call it twice, before and after the network is set up. */
function linuxScript(authorizedKey: string, username: string): string {
  return `#!/bin/sh
[ "$1" = postcustomization ] || exit 0
user=${quoted(username)}
home=$(getent passwd "$user" | cut -d: -f6)
mkdir -p "$home/.ssh"
printf '%s\\n' ${quoted(authorizedKey)} >> "$home/.ssh/authorized_keys"
chmod 700 "$home/.ssh"
chmod 600 "$home/.ssh/authorized_keys"
chown -R "$user:" "$home/.ssh"
if command -v restorecon >/dev/null; then restorecon -R "$home/.ssh"; fi
`;
}

/** OpenSSH reads this file for all administrators, and only if nobody else may write to it; groups have other names elsewhere. */
function windowsScript(authorizedKey: string): string {
  const file = "C:\\ProgramData\\ssh\\administrators_authorized_keys";
  return `@echo off
if not "%1" == "postcustomization" exit /b 0
if not exist C:\\ProgramData\\ssh mkdir C:\\ProgramData\\ssh
>> ${file} echo ${authorizedKey}
icacls ${file} /inheritance:r /grant "*S-1-5-32-544:F" /grant "*S-1-5-18:F"
`;
}

/** One word of a POSIX shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
