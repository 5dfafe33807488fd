/** What cloud-init is told of a machine's user and key, put beside the user data that it has anyway. */
import { parseDocument, stringify, YAMLMap } from "yaml";

const CLOUD_CONFIG = "#cloud-config";
const BOUNDARY = "==fleetingd-part==";
/** How cloud-init tells what a part is. */
const TYPES: readonly [string, string][] = [
  ["#!", "text/x-shellscript"],
  ["#include", "text/x-include-url"],
  ["#cloud-boothook", "text/cloud-boothook"],
  ["#part-handler", "text/part-handler"],
  ["## template: jinja", "text/jinja2"],
];

const SUPERUSER = "root";

/** Lets the key log in as that user, whom it makes; undefined: as root. */
export function userWithKey(username: string | undefined, authorizedKey: string): string {
  const user =
    username === undefined || username === SUPERUSER
      ? { disable_root: false, ssh_authorized_keys: [authorizedKey] }
      : {
          users: [
            "default",
            {
              name: username,
              lock_passwd: true,
              shell: "/bin/bash",
              sudo: "ALL=(ALL) NOPASSWD:ALL",
              ssh_authorized_keys: [authorizedKey],
            },
          ],
        };
  return `${CLOUD_CONFIG}\n${stringify(user, { lineWidth: 0 })}`;
}

/** @param userData What a person has written; empty: nothing. */
export function addCloudInitKey(userData: string, authorizedKey: string): string {
  const own = `${CLOUD_CONFIG}\n${stringify({ ssh_authorized_keys: [authorizedKey] })}`;
  if (userData.trim() === "") return own;
  if (userData.startsWith(CLOUD_CONFIG)) {
    const document = parseDocument(userData);
    if (
      document.errors.length === 0 &&
      (document.contents === null || document.contents instanceof YAMLMap)
    ) {
      const keys: unknown = document.toJS()?.ssh_authorized_keys;
      document.set("ssh_authorized_keys", [...(Array.isArray(keys) ? keys : []), authorizedKey]);
      // What begins with this word is a comment to YAML, which keeps it.
      return String(document);
    }
  }
  return addCloudConfig(userData, own);
}

/** Both, as parts of one. @param userData What a person has written, of any kind that cloud-init knows */
export function addCloudConfig(userData: string, own: string): string {
  return [
    `Content-Type: multipart/mixed; boundary="${BOUNDARY}"\nMIME-Version: 1.0\n`,
    `--${BOUNDARY}\n${asPart(userData)}`,
    `--${BOUNDARY}\nContent-Type: text/cloud-config\n\n${own}`,
    `--${BOUNDARY}--\n`,
  ].join("\n");
}

function asPart(userData: string): string {
  // Of several parts already: a part that has parts.
  if (/^(content-type|mime-version):/i.test(userData)) return userData;
  const [, type = "text/cloud-config"] = TYPES.find(([start]) => userData.startsWith(start)) ?? [];
  return `Content-Type: ${type}\n\n${userData}`;
}
