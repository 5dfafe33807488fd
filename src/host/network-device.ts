/** Questions about network devices that need no program. */
import { exists } from "./files.ts";
import { readProc } from "./proc.ts";

/**
 * Whether this process's network namespace has the device `name`. /sys would answer for the namespace in which it
 * was mounted; the per-device settings in /proc are always those of the reader.
 */
export async function networkDeviceExists(name: string): Promise<boolean> {
  return exists(`/proc/sys/net/ipv4/conf/${name}`);
}

export interface DeviceTraffic {
  receivedBytes: number;
  sentBytes: number;
}

/** What each device of this network namespace has received and sent since it was made, by its name. */
export function readDeviceTraffic(): ReadonlyMap<string, DeviceTraffic> {
  const lines = (readProc("/proc/self/net/dev") ?? "").split("\n").slice(2);
  return new Map(
    lines.flatMap((line) => {
      const [, name, numbers = ""] = /^ *([^:]+):(.*)$/.exec(line) ?? [];
      const counters = numbers.trim().split(/\s+/).map(Number);
      if (name === undefined) return [];
      return [[name, { receivedBytes: counters[0] ?? 0, sentBytes: counters[8] ?? 0 }] as const];
    }),
  );
}
