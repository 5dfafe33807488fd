/** Debian's Chromium, which sees nothing but this namespace; what it reports as wrong is kept. */
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { findProgram } from "../../src/host/files.ts";
import { ROOT } from "./daemon.ts";

const AXE = createRequire(import.meta.url).resolve("axe-core");
/** Only for what hangs: browsers take their time on a busy machine. */
const TIMEOUT_MS = 120_000;
/** What tests have seen; git ignores it. */
export const SCREENSHOTS = join(ROOT, ".cache", "screenshots");

export async function openBrowser(): Promise<Browser> {
  const executablePath = await findProgram("chromium");
  if (executablePath === undefined) throw new Error("there is no chromium: run scripts/setup test");
  // As root it has no sandbox; a container's /dev/shm is small.
  return chromium.launch({
    executablePath,
    timeout: TIMEOUT_MS,
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
  });
}

export interface WatchedPage {
  page: Page;
  /** Errors of scripts and of the content security policy, and answers that were not there. */
  problems: string[];
}

export async function openPage(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<WatchedPage> {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(TIMEOUT_MS);
  const page = await context.newPage();
  const problems: string[] = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") problems.push(message.text());
  });
  await page.goto(url);
  return { page, problems };
}

export async function keepScreenshot(page: Page, name: string): Promise<void> {
  await mkdir(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true });
}

/** What axe-core has against the page, in words. */
export async function axeViolations(page: Page): Promise<string[]> {
  // As a debugger's: the page's own policy would not let it in.
  await page.evaluate(await readFile(AXE, "utf8"));
  const { violations } = await page.evaluate<{
    violations: { id: string; help: string; nodes: { html: string }[] }[];
  }>("axe.run()");
  return violations.map(
    ({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(" ")}`,
  );
}
