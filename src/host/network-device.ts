/** Questions about network devices that need no program. */
import { exists } from "./files.ts";

/**
 * Whether this process's network namespace has the device `name`. /sys would answer for the namespace in which it
 * was mounted; the per-device settings in /proc are always those of the reader.
 */
export async function networkDeviceExists(name: string): Promise<boolean> {
  return exists(`/proc/sys/net/ipv4/conf/${name}`);
}
