/** `fleetingd images` */
import type { ImageList, ImageStatus } from "../api/images.ts";
import { formatAge, formatBytes, printable } from "../api/text.ts";
import { callUnary } from "../host/grpc.ts";
import { type CliCommand, EXIT, type ReadOptions } from "./context.ts";
import { formatTable } from "./format.ts";
import { askForJson } from "./json-answer.ts";

const TIMEOUT_MS = 60_000;

export const images: CliCommand<ReadOptions> = async (options, context) => {
  const answer = await askForJson<ImageList>(
    options,
    (client, timeoutMs) => callUnary(client.images.bind(client), {}, timeoutMs),
    ["images"],
    TIMEOUT_MS,
  );
  if (options.json === true) context.out(JSON.stringify(answer, null, 2));
  else for (const line of renderImages(answer.images)) context.out(printable(line));
  return EXIT.ok;
};

export function renderImages(list: readonly ImageStatus[]): string[] {
  if (list.length === 0) return ["No images."];
  const headings = ["KIND", "IMAGE", "CURRENT", "AGE", "SIZE", "VMS", "POOLS", "MADE OF", "DIRECTORY"];
  const rows = list.map((image) => [
    image.kind,
    image.name,
    image.current ? "yes" : "no",
    formatAge(image.ageSeconds),
    formatBytes(image.bytes),
    image.kind === "base" ? "-" : String(image.vms),
    image.pools.length === 0 ? "-" : image.pools.join(","),
    image.base ?? "-",
    image.directory,
  ]);
  return formatTable(headings, rows);
}
