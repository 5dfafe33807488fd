/** The web page where there are very many VMs, or none, or trouble: its real server and a real browser, and a daemon that is made up. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { silentLogger } from "../../../src/log.ts";
import { PageServer } from "../../../src/web/server.ts";
import { axeViolations, keepScreenshot, openBrowser, openPage } from "../../helpers/browser.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { type MadeUpDaemon, madeUpDaemon, tellStart } from "../../helpers/page-facts.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

failOnLeaks();

const LISTEN = { host: "127.0.0.1", port: 9466 };
const URL = "http://127.0.0.1:9466/";
const MANY = 500;
const WIDE = { viewport: { width: 1280, height: 900 } };
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
const PREBUILD = "downloading the base image, 42 %";
/** As it might come out of a VM. */
const HOSTILE = "<img src=x onerror=alert(1)>\u202e\u001b[31m it failed\nits console ended with:\nsecret";

describe("the web page", { skip: needsNamespace() }, () => {
  let browser: Browser;
  let server: PageServer | undefined;

  before(async () => {
    browser = await openBrowser();
  });
  after(() => browser.close());
  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
    await server?.close();
  });

  async function show(daemon: MadeUpDaemon, options: BrowserContextOptions): Promise<Page> {
    server = new PageServer({
      pageListen: LISTEN,
      pageTokenFile: undefined,
      facts: daemon.facts,
      actions: daemon.actions,
      logger: silentLogger,
    });
    await server.start();
    const { page, problems } = await openPage(browser, URL, options);
    await page.locator(".overview").waitFor();
    assert.deepEqual(problems, []);
    return page;
  }

  test(`with ${MANY} VMs: a second costs texts, no elements, and nothing moves`, async () => {
    const daemon = madeUpDaemon(MANY);
    const page = await show(daemon, { ...WIDE, colorScheme: "dark", reducedMotion: "reduce" });
    await page.evaluate(OBSERVE);
    const rows = page.locator("#vms tbody tr");
    assert.equal(await rows.count(), MANY);
    // Rows out of sight are neither laid out nor painted.
    assert.ok((await page.evaluate<number>(ROWS_DRAWN)) < 120);
    const [first] = daemon.status.instances;
    assert.ok(first !== undefined);
    first.lastError = "it is odd";
    for (const one of daemon.status.instances)
      if (one.traffic !== null) one.traffic = { receivedBytes: one.ageSeconds * 4_096, sentBytes: 7 };
    await page.getByRole("cell", { name: "it is odd" }).waitFor();
    await page.mouse.move(600, 600);
    await page.mouse.wheel(0, 2_000);
    await page.getByText("Live", { exact: true }).waitFor();
    const { elements, shift } = await page.evaluate<{ elements: number; shift: number }>("window.observed");
    assert.ok(elements <= 4, `${elements} elements were made or moved for one VM's error`);
    assert.equal(shift, 0);
    await keepScreenshot(page, `page-${MANY}-dark`);
    assert.deepEqual(await axeViolations(page), []);
  });

  test("with one VM, and with none while the image is being made, on a telephone", async () => {
    const daemon = madeUpDaemon(1);
    tellStart(daemon, daemon.status.instances[0]?.id ?? "", 1.4);
    const page = await show(daemon, PHONE);
    assert.match((await page.locator(".overview").textContent()) ?? "", /All is as it should be/);
    await keepScreenshot(page, "page-1-phone");
    daemon.status.instances.length = 0;
    const [pool] = daemon.status.pools;
    assert.ok(pool !== undefined);
    Object.assign(pool, {
      goldenImage: null,
      goldenImageAgeSeconds: null,
      warm: { desired: 2, actual: 0 },
      counts: { creating: 0, ready: 0, deleting: 0, failed: 0 },
      prebuild: { state: "running", step: PREBUILD, error: null, nextInSeconds: null, timings: null },
      why: `its golden image is being made: ${PREBUILD}.`,
    });
    await page.getByText("There are no VMs.").waitFor();
    const reason = `ci: 0 of 2 warm VMs are ready, because its golden image is being made: ${PREBUILD}.`;
    assert.match(
      (await page.locator(".overview").textContent()) ?? "",
      new RegExp(reason.replaceAll("%", "\\%")),
    );
    assert.equal(await page.title(), "0/2 warm – fleetingd");
    await keepScreenshot(page, "page-empty-phone");
    assert.deepEqual(await axeViolations(page), []);
  });

  test("with trouble, told in words that nothing is made of", async () => {
    const failing = {
      counts: { creating: 0, ready: 1, deleting: 0, failed: 2 },
      warm: { desired: 4, actual: 1 },
      lastError: HOSTILE,
      retryInSeconds: 16,
      why: `the last one could not be made, and the next try is in 16 s: ${HOSTILE}.`,
    };
    const daemon = madeUpDaemon(3, failing);
    const [one] = daemon.status.instances;
    if (one !== undefined) Object.assign(one, { state: "failed", lastError: HOSTILE, group: null });
    const page = await show(daemon, { ...WIDE, colorScheme: "dark" });
    assert.match((await page.locator(".overview h2").textContent()) ?? "", /^ci needs attention$/);
    assert.equal(await page.title(), "! 1/4 warm – fleetingd");
    const cell = page.locator("td.of-error").filter({ hasText: "onerror" });
    assert.match((await cell.textContent()) ?? "", /^<img src=x onerror=alert\(1\)> it failed …$/);
    assert.equal(await page.locator("main img").count(), 0);
    assert.doesNotMatch(await page.content(), /secret/);
    await keepScreenshot(page, "page-failing-dark");
    assert.deepEqual(await axeViolations(page), []);
  });
});

/** Elements that come, go or move within the table, and how much of what is seen has moved by itself. */
const OBSERVE = `{
  window.observed = { elements: 0, shift: 0 };
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes)
      window.observed.elements += [...addedNodes].filter((node) => node.nodeType === Node.ELEMENT_NODE).length;
  }).observe(document.querySelector("#vms table"), { childList: true, subtree: true });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.observed.shift += entry.value;
  }).observe({ type: "layout-shift" });
}`;
const ROWS_DRAWN = `[...document.querySelectorAll("#vms tbody tr")]
  .filter((row) => row.firstElementChild.checkVisibility({ contentVisibilityAuto: true })).length`;
