/** The guests of the cloud's servers: they do with their user data what cloud-init or Ignition would. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { readTextIfExists } from "../../../src/host/files.ts";
import { type Guest, type Guests, startGuests } from "../guests.ts";
import { SUBNET } from "./settings.ts";

interface GuestFile {
  addresses: string[];
  /** Base64. */
  userData: string | null;
  /** What `key_name` stands for. */
  key: string | null;
}

/** The user that the image `debian` has by itself. */
const CLOUD_INIT_USER = "debian";

export function startServerGuests(directory: string): Promise<Guests> {
  return startGuests(SUBNET, (address) => guestAt(join(directory, "guests"), address));
}

async function guestAt(directory: string, address: string): Promise<Guest | undefined> {
  for (const name of await readdir(directory)) {
    const text = await readTextIfExists(join(directory, name));
    // It ended meanwhile, or is being written.
    if (text === undefined || !text.endsWith("}")) continue;
    const guest = JSON.parse(text) as GuestFile;
    if (guest.addresses.includes(address)) return understand(guest);
  }
  return undefined;
}

function understand({ userData, key }: GuestFile): Guest {
  const text = Buffer.from(userData ?? "", "base64").toString();
  if (text.startsWith("{")) {
    const config = JSON.parse(text) as { passwd: { users: { name: string; sshAuthorizedKeys: string[] }[] } };
    const user = config.passwd.users.at(-1);
    return { username: user?.name ?? "", authorizedKeys: user?.sshAuthorizedKeys ?? [] };
  }
  const parts = text.startsWith("#cloud-config") ? [text] : text.split(/^--\S+$/m);
  const keys = parts.flatMap((part) => {
    const start = part.indexOf("#cloud-config");
    if (start < 0) return [];
    const config = parse(part.slice(start)) as { ssh_authorized_keys?: string[] } | null;
    return config?.ssh_authorized_keys ?? [];
  });
  return { username: CLOUD_INIT_USER, authorizedKeys: key === null ? keys : [...keys, key] };
}
