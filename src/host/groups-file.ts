/** Groups of the operating system by name and number, from /etc/group: the plugin runs no program. */
import { readFile } from "node:fs/promises";

const GROUPS_FILE = "/etc/group";

/** @returns undefined if the file does not list it. */
export async function groupIdOf(name: string): Promise<number | undefined> {
  const entry = (await groups()).find((group) => group.name === name);
  return entry?.id;
}

/** @returns The number as text if the file does not list it. */
export async function groupNameOf(id: number): Promise<string> {
  const entry = (await groups()).find((group) => group.id === id);
  return entry?.name ?? String(id);
}

async function groups(): Promise<{ name: string; id: number }[]> {
  const text = await readFile(GROUPS_FILE, "utf8");
  return text.split("\n").flatMap((line) => {
    const [name, , id] = line.split(":");
    return name && id ? [{ name, id: Number(id) }] : [];
  });
}
