/** The interface of the default route, read without starting a program: it is asked for all the time. */
import { readProc } from "../host/proc.ts";

const ROUTES = "/proc/self/net/route";
const UP = 1;
const REJECT = 0x200;

/** Undefined if the host has no IPv4 default route. */
export function defaultRouteInterface(): string | undefined {
  return parseDefaultRoute(readProc(ROUTES) ?? "");
}

/** The pure part: the interface of the default route with the lowest metric. */
export function parseDefaultRoute(text: string): string | undefined {
  const routes = text
    .trim()
    .split("\n")
    // Each VM has a route of its own, so there are hundreds: only those that begin at 0.0.0.0 are taken apart.
    .filter((line) => /^\S+\s+0+\s/.test(line))
    .map((line) => line.trim().split(/\s+/))
    .filter(([, destination, , flags = "0", , , , mask]) => {
      const bits = Number.parseInt(flags, 16);
      return (
        /^0+$/.test(destination ?? "") &&
        /^0+$/.test(mask ?? "") &&
        (bits & UP) !== 0 &&
        (bits & REJECT) === 0
      );
    });
  const [best] = routes.sort((one, other) => Number(one[6]) - Number(other[6]));
  return best?.[0];
}
