/** The web page as an operator has it: a real daemon with stand-in VMs, and a real browser. */
import assert from "node:assert/strict";
import { appendFile, stat, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import type { InstanceStatus } from "../../../src/api/status.ts";
import { conditionOf } from "../../../src/api/text.ts";
import { waitFor } from "../../../src/host/wait.ts";
import {
  axeViolations,
  keepScreenshot,
  openBrowser,
  openPage,
  type WatchedPage,
} from "../../helpers/browser.ts";
import type { TestDaemon } from "../../helpers/daemon.ts";
import { attachGroup, type GroupClient } from "../../helpers/group-client.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { createStandInWorld, STAND_IN_POOL, type StandInWorld } from "../../helpers/stand-in-world.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

failOnLeaks();

const PORT = 9465;
const DEBUG_PORT = 27_060;
const URL = `http://127.0.0.1:${PORT}/`;
const TOKEN = "a-token-of-24-characters";
const TIMEOUT_MS = 120_000;
/** What only the token's owner has seen. */
const CONSOLE_TEXT = "\u001b[31mhello\u001b[0m \u001b]0;title\u0007<b>of a job</b>";

describe("the web page", { skip: needsNamespace() }, () => {
  let world: StandInWorld;
  let daemon: TestDaemon;
  let group: GroupClient;
  let browser: Browser;
  let watched: WatchedPage;
  let page: Page;

  before(async () => {
    world = await createStandInWorld();
    const tokenFile = join(world.folder, "token");
    await writeFile(tokenFile, `${TOKEN}\n`, { mode: 0o600 });
    daemon = await world.start({
      pool: { warm_instances: 2, max_instances: 4 },
      settings: { page_listen: `127.0.0.1:${PORT}`, page_token_file: tokenFile },
      ephemeral: true,
    });
    await daemon.untilWarm(STAND_IN_POOL, 2);
    group = await attachGroup(daemon.client, {
      pool: STAND_IN_POOL,
      debug_server_addr: `127.0.0.1:${DEBUG_PORT}`,
    });
    browser = await openBrowser();
    watched = await openPage(browser, URL, { viewport: { width: 1280, height: 900 } });
    page = watched.page;
  });
  after(async () => {
    await browser?.close();
    group?.detach();
    await daemon?.stop();
    await world.remove();
  });

  const eventually = (what: string, holds: () => Promise<boolean>): Promise<true> =>
    waitFor(async () => ((await holds()) ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 50,
      what,
    });
  /** What the table shows, a line each: VM, state, pool, address, group. */
  const shownRows = (): Promise<string[]> =>
    page.$$eval("#vms tbody tr", (rows) =>
      rows.map((row) =>
        [".of-instance", ".of-state", ".of-pool", ".of-address", ".of-group"]
          .map((cell) => row.querySelector(cell)?.textContent)
          .join(" "),
      ),
    );
  const rowOf = (one: InstanceStatus): string =>
    [one.id, conditionOf(one), one.pool, one.address ?? "–", one.group ?? "–"].join(" ");
  const untilShown = (): Promise<true> =>
    eventually("the page to show what status says", async () => {
      const { instances, pools } = await daemon.status();
      const rows = instances.map(rowOf).sort();
      const [pool] = pools;
      const warm = await page.textContent(".warm-count");
      return (
        JSON.stringify((await shownRows()).sort()) === JSON.stringify(rows) &&
        warm === `${pool?.warm.actual} of ${pool?.warm.desired} warm`
      );
    });

  test("asks for its token, and tells nothing before", async () => {
    assert.deepEqual((await fetch(`${URL}live`)).status, 401);
    assert.match((await page.textContent("main")) ?? "", /Token/);
    await page.getByLabel("Token").fill("a wrong one, of 27 characters");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").waitFor();
    await keepScreenshot(page, "page-login");
    // The browser reports the 401.
    watched.problems.length = 0;
    await page.getByLabel("Token").fill(TOKEN);
    await page.keyboard.press("Enter");
    await page.getByRole("table", { name: "VMs" }).waitFor();
  });

  test("shows what `fleetingd status` says", async () => {
    await untilShown();
    const { instances, hypervisor } = await daemon.status();
    assert.equal(await page.locator("#vms tbody tr").count(), instances.length);
    assert.ok((await page.textContent("footer"))?.includes(hypervisor));
    assert.equal(await page.title(), "2/2 warm – fleetingd");
    assert.match((await page.textContent(".overview")) ?? "", /All is as it should be/);
    await keepScreenshot(page, "page-light");
  });

  test("follows a claim and its end by itself", async () => {
    await group.increase(1);
    await page.locator(".badge.in-use").waitFor();
    await untilShown();
    const [id = ""] = await group.running();
    assert.match(
      (await page.textContent(".events")) ?? "",
      new RegExp(`${id} claimed by ci/default: it was warm`),
    );
    await group.decrease([id]);
    await eventually("its end", async () => !(await shownRows()).some((row) => row.includes(id)));
    await eventually(
      "the end among the events",
      async () => (await page.textContent(".events"))?.includes(`${id} gone, with all that was its`) === true,
    );
    await untilShown();
    assert.match(
      (await page.getByRole("region", { name: "Claims" }).textContent()) ?? "",
      /^Claims1, from the claim/,
    );
  });

  test("tells the life of a VM and shows its console, as text and nothing else", async () => {
    const [one] = (await daemon.status()).instances.filter(({ state }) => state === "ready");
    const id = one?.id ?? "";
    const log = join(world.stateDirectory, "vms", id, "console.log");
    const before = (await stat(log)).size;
    await page.getByRole("table", { name: "VMs" }).getByRole("button", { name: id }).click();
    const dialog = page.getByRole("dialog", { name: id });
    await dialog.getByText("ready for a job").waitFor();
    const output = dialog.getByRole("region", { name: `Console of ${id}` });
    await appendFile(log, `${CONSOLE_TEXT}\n`);
    await output.getByText("hello <b>of a job</b>").waitFor();
    assert.equal(await output.locator("b").count(), 0);
    await appendFile(log, "and more\n");
    await output.getByText("and more").waitFor();
    assert.ok((await stat(log)).size > before);
    await keepScreenshot(page, "page-dialog");
    assert.deepEqual(await axeViolations(page), []);
    assert.equal(new globalThis.URL(page.url()).hash, `#vm=${id}`);
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    assert.equal(new globalThis.URL(page.url()).hash, "");
  });

  test("is used by keyboard: skips, filters, sorts, opens and closes", async () => {
    await page.reload();
    await untilShown();
    await page.keyboard.press("Tab");
    assert.equal(await focused(page), "Skip to the VMs");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    await page.keyboard.type("no such words");
    await page.getByText("None has such words.").waitFor();
    await page.keyboard.press("ControlOrMeta+A");
    await page.keyboard.type("warm");
    await page.locator("#vms").getByText("2 of 2", { exact: true }).waitFor();
    // The region that scrolls, then the heading of the first column.
    for (const _ of [1, 2]) await page.keyboard.press("Tab");
    assert.equal(await focused(page), "VM");
    const header = page.getByRole("columnheader", { name: "VM", exact: true });
    await page.keyboard.press("Enter");
    await eventually("the order", async () => (await header.getAttribute("aria-sort")) === "ascending");
    const upwards = await shownRows();
    await page.keyboard.press("Space");
    await eventually("the reverse", async () => (await header.getAttribute("aria-sort")) === "descending");
    assert.deepEqual(await shownRows(), upwards.toReversed());
    await page.getByLabel("Filter VMs").fill("");
    for (const _ of Array.from({ length: 10 })) await page.keyboard.press("Tab");
    const id = await focused(page);
    assert.match(id, /^fl-/);
    await page.keyboard.press("Enter");
    await page.getByRole("dialog", { name: id }).waitFor();
    await page.keyboard.press("Escape");
    await eventually("the focus to come back", async () => (await focused(page)) === id);
  });

  const eventsTell = (pattern: RegExp): Promise<true> =>
    eventually(`an event that matches ${pattern}`, async () =>
      pattern.test((await page.textContent(".events")) ?? ""),
    );

  test("ends a VM whose job hangs, by keyboard, after it has asked", async () => {
    await group.increase(1);
    await eventually("a VM for the group", async () => (await group.running()).length === 1);
    const [id = ""] = await group.running();
    await untilShown();
    await page.getByRole("table", { name: "VMs" }).getByRole("button", { name: id }).click();
    const button = page.getByRole("button", { name: "Remove this VM" }).first();
    await button.focus();
    await page.keyboard.press("Enter");
    const question = page.getByRole("alertdialog", {
      name: `Remove ${id}? ci/default uses it: a job that runs there fails.`,
    });
    await question.waitFor();
    assert.equal(await focused(page), "Cancel");
    assert.deepEqual(await axeViolations(page), []);
    await keepScreenshot(page, "page-question");
    await page.keyboard.press("Enter");
    await question.waitFor({ state: "detached" });
    assert.equal(await focused(page), "Remove this VM");
    assert.deepEqual(await group.running(), [id], "what was not confirmed is not done");
    await page.keyboard.press("Enter");
    await question.waitFor();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByText(`${id} is being removed.`).waitFor();
    await eventually("its end", async () => (await group.list()).length === 0);
    await page.getByText("It is gone: somebody removed it on the web page.").waitFor();
    assert.equal(await focused(page), "Remove this VM");
    assert.equal(await button.getAttribute("aria-disabled"), "true");
    await page.keyboard.press("Escape");
    await daemon.untilWarm(STAND_IN_POOL, 2);
    await untilShown();
  });

  test("makes a golden image anew, and shows how far it is", async () => {
    const before = (await daemon.status()).pools[0]?.goldenImage;
    await page.getByRole("button", { name: "Make its image anew (ci)" }).click();
    await eventsTell(/a new golden image is wanted, says somebody on this page/);
    await eventually("another image", async () => {
      const [pool] = (await daemon.status()).pools;
      return pool?.prebuild.state === "done" && pool.goldenImage !== before;
    });
    const after = (await daemon.status()).pools[0]?.goldenImage;
    await eventsTell(new RegExp(`the golden image is ${after}`));
    await page.getByText(`Golden image ${after}`).waitFor();
    assert.match(daemon.log(), /it was asked for a new golden image.*by="page"/);
  });

  test("drains the host, and undoes that", async () => {
    await page.getByRole("button", { name: "Drain" }).click();
    await page
      .getByRole("alertdialog", { name: /^Drain this host\?/ })
      .getByRole("button", { name: "Drain" })
      .click();
    await page.locator(".badge").getByText("draining").waitFor();
    await page.getByText("There are no VMs.").waitFor();
    assert.match(daemon.log(), /it was asked to drain this host.*by="page"/);
    assert.deepEqual(await axeViolations(page), []);
    await page.getByRole("button", { name: "Make VMs again" }).click();
    await daemon.untilWarm(STAND_IN_POOL, 2);
    await untilShown();
  });

  test("is understood by screen readers, in light and in dark, on a telephone too", async () => {
    const tree = await page.locator("#vms").ariaSnapshot();
    assert.match(tree, /region "VMs"/);
    assert.match(tree, /table "VMs"/);
    assert.match(tree, /columnheader "State/);
    assert.match(tree, /rowheader "fl-\w+"/);
    assert.match(tree, /cell "warm"/);
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      assert.deepEqual(await axeViolations(page), [], colorScheme);
    }
    await keepScreenshot(page, "page-dark");
    await page.setViewportSize({ width: 390, height: 844 });
    assert.deepEqual(await axeViolations(page), []);
    const overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
    assert.equal(overflow, 0, "the page is wider than the telephone");
    await keepScreenshot(page, "page-phone");
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize({ width: 1280, height: 900 });
  });

  test("is served where a runner's debug_server_addr says, guarded by the same token", async () => {
    const other = `http://127.0.0.1:${DEBUG_PORT}/`;
    assert.equal((await fetch(other)).status, 401);
    const headers = { authorization: `Bearer ${TOKEN}` };
    assert.equal((await fetch(other, { headers })).status, 200);
  });

  test("never tells a private key, or to whom it does not belong", async () => {
    const headers = { authorization: `Bearer ${TOKEN}` };
    const [one] = (await daemon.status()).instances;
    const life = await fetch(`${URL}instances/${one?.id}`, { headers });
    const live = await fetch(`${URL}live`, { headers });
    const first = (await life.text()) + (await firstMessage(live));
    assert.ok(first.includes(one?.id ?? "none"));
    assert.doesNotMatch(first, /PRIVATE KEY|privateKey|connectInfo/);
    assert.equal(await statusFor({ headers: { host: "rebound.example", ...headers } }), 421);
    assert.equal(await statusFor({ headers: { origin: "http://rebound.example", ...headers } }), 403);
  });

  test("says that the daemon is away, and goes on with the next one", async () => {
    await page.getByText("Live", { exact: true }).waitFor();
    daemon.process.kill("SIGKILL");
    await page.getByText(/^No connection: this is how it was at/).waitFor();
    await waitFor(async () => daemon.process.signalCode ?? undefined, {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 20,
      what: "the daemon's end",
    });
    group.detach();
    daemon = await daemon.restart();
    group = await attachGroup(daemon.client, { pool: STAND_IN_POOL });
    await page.getByText("Live", { exact: true }).waitFor();
    await untilShown();
  });

  test("ends a session, and has had nothing against its own policy", async () => {
    const refused = /Content.Security.Policy|TrustedHTML|blocked/i;
    assert.deepEqual(
      watched.problems.filter((problem) => refused.test(problem)),
      [],
    );
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByLabel("Token").waitFor();
    assert.equal((await page.context().cookies()).length, 0);
  });
});

function focused(page: Page): Promise<string> {
  return page.evaluate<string>("document.activeElement?.textContent ?? ''");
}

async function firstMessage(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = "";
  while (!/^data: \{"kind|\ndata: \{"at.*\n/.test(text)) {
    const { done, value } = (await reader?.read()) ?? { done: true };
    if (done) break;
    text += decoder.decode(value, { stream: true });
  }
  await reader?.cancel();
  return text;
}

/** Like `fetch`, which does not let one choose these headers. */
function statusFor({ headers }: { headers: Record<string, string> }): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request(URL, { headers }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .once("error", reject)
      .end();
  });
}
