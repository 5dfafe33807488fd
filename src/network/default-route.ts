/** The interface of the default route, read without starting a program: it is asked for all the time. */
import { readFile } from "node:fs/promises";

const ROUTES = "/proc/self/net/route";
const UP = 1;
const REJECT = 0x200;

/** Undefined if the host has no IPv4 default route. */
export async function defaultRouteInterface(): Promise<string | undefined> {
  return parseDefaultRoute(await readFile(ROUTES, "utf8"));
}

/** The pure part: the interface of the default route with the lowest metric. */
export function parseDefaultRoute(text: string): string | undefined {
  const routes = text
    .trim()
    .split("\n")
    .slice(1)
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
