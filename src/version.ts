/** What this program is, as scripts/build.ts wrote it in; run from source it has no version. */

declare const FLEETINGD_VERSION: string | undefined;
declare const FLEETINGD_BUILD: string | undefined;

/** As in package.json. */
export const VERSION: string = typeof FLEETINGD_VERSION === "string" ? FLEETINGD_VERSION : "0.0.0-source";

/** The commit that was built, or a word that says why it is not known. */
export const BUILD: string = typeof FLEETINGD_BUILD === "string" ? FLEETINGD_BUILD : "source";
