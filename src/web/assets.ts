/** The page's own files, which the build has put beside the program. */
import { readFile } from "node:fs/promises";
import { packageFile } from "../host/package-root.ts";

export interface Assets {
  readonly page: string;
  readonly login: string;
  /** By their paths. */
  readonly files: ReadonlyMap<string, { body: string; type: string; isPublic: boolean }>;
}

const FILES = [
  { name: "page.js", type: "text/javascript; charset=utf-8", isPublic: false },
  // For the login.
  { name: "page.css", type: "text/css; charset=utf-8", isPublic: true },
  { name: "page.svg", type: "image/svg+xml", isPublic: true },
];

export async function loadAssets(): Promise<Assets> {
  const read = async (name: string): Promise<string> => readFile(await packageFile("dist", name), "utf8");
  const files = FILES.map(
    async ({ name, ...file }) => [`/${name}`, { ...file, body: await read(name) }] as const,
  );
  return {
    page: await read("page.html"),
    login: await read("page-login.html"),
    files: new Map(await Promise.all(files)),
  };
}
