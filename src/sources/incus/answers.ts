/** What Incus answers, as far as it is looked at. */
import * as z from "zod";

export const instanceSchema = z.object({
  name: z.string(),
  status: z.string(),
  ephemeral: z.boolean(),
  config: z.record(z.string(), z.string()),
});
export type IncusInstance = z.infer<typeof instanceSchema>;

const addressSchema = z.object({ family: z.string(), address: z.string(), scope: z.string() });
export const stateSchema = z.object({
  status: z.string(),
  network: z.record(z.string(), z.object({ addresses: z.array(addressSchema).nullish() })).nullish(),
});
export type IncusState = z.infer<typeof stateSchema>;

export const profileSchema = z.object({
  devices: z.record(z.string(), z.record(z.string(), z.string())),
});

/** Of a machine's own: the loopback, and the bridge of a Docker in its image. */
const INNER_DEVICES = new Set(["lo", "docker0"]);

/** The address that a runner can connect to: global, IPv4 rather than IPv6, of the first interface by name. */
export function addressOf({ network }: IncusState, device: string | undefined): string | undefined {
  const interfaces = Object.entries(network ?? {})
    .filter(([name]) => (device === undefined ? !INNER_DEVICES.has(name) : name === device))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const all = interfaces
    .flatMap(([, { addresses }]) => addresses ?? [])
    .filter(({ scope }) => scope === "global");
  return (all.find(({ family }) => family === "inet") ?? all[0])?.address;
}
