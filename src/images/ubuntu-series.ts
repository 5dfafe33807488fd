/**
 * Which folders of an image server may have a series. A release with long-term support comes in April of every even year
 * and its folder bears its version, so the newest one is found by asking for versions: nothing here can grow old.
 * Daily builds are only found by code name.
 */
import { FleetingdError } from "../errors.ts";

/** A folder to look into, and what tells that its files are of the wanted series. */
export interface Candidate {
  /** Code name, or version where that is not known: names the image. */
  series: string;
  /** Below the mirror's base URL. */
  folder: string;
  /** Matches the part of a file's name before `-server-cloudimg-…`. */
  prefix: RegExp;
}

export interface Candidates {
  /** In the order in which to look. */
  list: readonly Candidate[];
  /** A release whose daily builds we would want, were its code name known. */
  unknownVersion: string | undefined;
}

/** Releases by version; `distro-info` on the host may know later ones. */
const CODE_NAMES: Readonly<Record<string, string>> = {
  "20.04": "focal",
  "22.04": "jammy",
  "24.04": "noble",
  "26.04": "resolute",
};
const OLDEST_YEAR = 2020;
/** No clock that is right is behind this. */
const NEWEST_KNOWN_YEAR = 2026;
const RELEASE_MONTH = 4;

/**
 * @param series a code name, a version or `lts`
 * @param distroInfo the text of `/usr/share/distro-info/ubuntu.csv`, empty if the host has none
 * @throws FleetingdError INVALID_ARGUMENT if `series` can be no series
 */
export function seriesCandidates(
  series: string,
  stream: "release" | "daily",
  now: Date,
  distroInfo: string,
): Candidates {
  const codeNames = { ...CODE_NAMES, ...parseDistroInfo(distroInfo) };
  if (series === "lts") {
    return stream === "release" ? newestRelease(now, codeNames) : newestDaily(now, codeNames);
  }
  if (!/^([a-z]{2,32}|\d\d\.\d\d)$/.test(series)) {
    throw new FleetingdError(
      "INVALID_ARGUMENT",
      `${JSON.stringify(series)} is not the name of an Ubuntu release`,
      {
        hint: 'Give a code name such as "noble", or "lts".',
      },
    );
  }
  const codeName = codeNames[series] ?? series;
  const version = Object.keys(codeNames).find((key) => codeNames[key] === codeName);
  const folders = stream === "release" ? [`releases/${series}/release`] : dailyFolders(codeName);
  const prefix = prefixOf(version, codeName);
  return {
    list: folders.map((folder) => ({ series: codeName, folder, prefix })),
    unknownVersion: undefined,
  };
}

/** Both lead to the same files on Ubuntu's own server; a mirror may have only one. */
function dailyFolders(codeName: string): string[] {
  return [`${codeName}/current`, `daily/server/${codeName}/current`];
}

function newestRelease(now: Date, codeNames: Readonly<Record<string, string>>): Candidates {
  const list = ltsVersions(now).flatMap((version) => {
    const codeName = codeNames[version];
    const prefix = prefixOf(version, codeName);
    // Both lead to the same files; a partial mirror may have only one.
    const names = codeName === undefined ? [version] : [version, codeName];
    return names.map((name) => ({ series: codeName ?? version, folder: `releases/${name}/release`, prefix }));
  });
  return { list, unknownVersion: undefined };
}

function newestDaily(now: Date, codeNames: Readonly<Record<string, string>>): Candidates {
  // Daily builds begin long before a release does, so here the calendar decides.
  const released = ltsVersions(now).filter((version) => releasedBy(version, now));
  const list = released.flatMap((version) => {
    const codeName = codeNames[version];
    if (codeName === undefined) return [];
    const prefix = prefixOf(version, codeName);
    return dailyFolders(codeName).map((folder) => ({ series: codeName, folder, prefix }));
  });
  const [newest] = released;
  return {
    list,
    unknownVersion: newest !== undefined && codeNames[newest] === undefined ? newest : undefined,
  };
}

/** `26.04`, `24.04`, …: all up to this year's, newest first. */
function ltsVersions(now: Date): string[] {
  const last = Math.max(now.getUTCFullYear(), NEWEST_KNOWN_YEAR);
  const versions: string[] = [];
  for (let year = last - (last % 2); year >= OLDEST_YEAR; year -= 2) versions.push(`${year % 100}.04`);
  return versions;
}

function releasedBy(version: string, now: Date): boolean {
  const year = 2000 + Number(version.slice(0, 2));
  return now >= new Date(Date.UTC(year, RELEASE_MONTH)) || year <= NEWEST_KNOWN_YEAR;
}

/** Release files are named `ubuntu-24.04-…`, daily ones `noble-…`. */
function prefixOf(version: string | undefined, codeName: string | undefined): RegExp {
  const versions = version === undefined ? String.raw`\d\d\.\d\d` : version.replace(".", String.raw`\.`);
  return new RegExp(`^(?:ubuntu-${versions}${codeName === undefined ? "" : `|${codeName}`})$`);
}

/** Code names by version, of long-term releases and others. */
function parseDistroInfo(text: string): Record<string, string> {
  const rows = text.split("\n").map((line) => line.split(","));
  return Object.fromEntries(
    rows.flatMap(([version = "", , codeName = ""]) => {
      const match = /^(\d\d\.\d\d)( LTS)?$/.exec(version);
      return match?.[1] !== undefined && /^[a-z]+$/.test(codeName) ? [[match[1], codeName]] : [];
    }),
  );
}
