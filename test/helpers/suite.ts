import { after, before } from "node:test";
import { assertNothingLeaked, type HostSnapshot, type LeakCheckOptions, snapshotHost } from "./leaks.ts";

/**
 * Makes a test file fail if anything is left behind when it ends. Call it once, at the top of the file and outside of
 * any `describe`; tear down in the `after` of a `describe`, for those run first.
 */
export function failOnLeaks(options: LeakCheckOptions = {}): void {
  let atStart: HostSnapshot | undefined;
  before(async () => {
    atStart = await snapshotHost(options);
  });
  after(async () => {
    if (atStart !== undefined) await assertNothingLeaked(atStart, options);
  });
}
