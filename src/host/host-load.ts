/** How much of the host's memory is in use, and how hard it is to get some. */
import { readProc } from "./proc.ts";

export interface MemoryLoad {
  totalBytes: number;
  availableBytes: number;
  /** Share of the last ten seconds in which something waited for memory; undefined where the kernel does not tell. */
  pressurePercent: number | undefined;
}

export function readMemoryLoad(): MemoryLoad {
  const meminfo = readProc("/proc/meminfo") ?? "";
  const pressure = readProc("/proc/pressure/memory");
  const bytes = (name: string): number =>
    1024 * Number(new RegExp(`^${name}: +(\\d+) kB`, "m").exec(meminfo)?.[1] ?? 0);
  const average = /^some avg10=([\d.]+)/m.exec(pressure ?? "")?.[1];
  return {
    totalBytes: bytes("MemTotal"),
    availableBytes: bytes("MemAvailable"),
    pressurePercent: average === undefined ? undefined : Number(average),
  };
}
