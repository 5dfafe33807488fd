/** The web page in Chromium, told by a daemon that is made up: with one VM and with hundreds. */
import { FleetingdError } from "../src/errors.ts";
import { sleep } from "../src/host/wait.ts";
import { silentLogger } from "../src/log.ts";
import { PageServer } from "../src/web/server.ts";
import { openBrowser, openPage } from "../test/helpers/browser.ts";
import { madeUpDaemon } from "../test/helpers/page-facts.ts";
import type { Measurement } from "./measurement.ts";

const LISTEN = { host: "127.0.0.1", port: 9465 };
const SECONDS = 5;

function pageWith(vms: number): Measurement {
  const name = `page.${vms}`;
  return {
    metrics: [
      { name: `${name}.shown.ms`, goal: { atMost: 1_500 } },
      { name: `${name}.update.ms`, goal: { atMost: 250 } },
      { name: `${name}.scroll.ms`, goal: { atMost: 50 } },
    ],
    runs: 3,
    warmups: 1,
    async prepare() {
      const daemon = madeUpDaemon(vms);
      const { facts, actions } = daemon;
      const options = { pageTokenFile: undefined, facts, actions, logger: silentLogger };
      const server = new PageServer({ ...options, pageListen: LISTEN });
      await server.start();
      const browser = await openBrowser();
      const change = setInterval(() => {
        for (const one of daemon.status.instances)
          if (one.traffic !== null) one.traffic.receivedBytes += 123_456;
      }, 500);
      return {
        async run() {
          const { page, problems } = await openPage(browser, `http://${LISTEN.host}:${LISTEN.port}/`);
          try {
            const shownMs = await page.evaluate<number>(shown(vms));
            const session = await page.context().newCDPSession(page);
            await session.send("Performance.enable");
            const taskMs = async (): Promise<number> => {
              const { metrics } = await session.send("Performance.getMetrics");
              return (metrics.find((one) => one.name === "TaskDuration")?.value ?? Number.NaN) * 1_000;
            };
            const before = await taskMs();
            await sleep(SECONDS * 1_000);
            const updateMs = ((await taskMs()) - before) / SECONDS;
            const scrollMs = await page.evaluate<number>(SCROLL);
            if (problems.length > 0) throw new FleetingdError("INTERNAL", problems.join("\n"));
            return {
              [`${name}.shown.ms`]: shownMs,
              [`${name}.update.ms`]: updateMs,
              [`${name}.scroll.ms`]: scrollMs,
            };
          } finally {
            await page.context().close();
          }
        },
        async close() {
          clearInterval(change);
          await browser.close();
          await server.close();
        },
      };
    },
  };
}

/** Milliseconds since the page was asked for, when a frame with all rows has been drawn. */
const shown = (vms: number): string => `new Promise((resolve) => {
  const look = () => requestAnimationFrame(() =>
    document.querySelectorAll("#vms tbody tr").length === ${vms}
      ? requestAnimationFrame(() => resolve(performance.now()))
      : look());
  look();
})`;

const SCROLL = `new Promise((resolve) => {
  const region = document.querySelector("#vms .scroll");
  const frames = [];
  let last;
  const step = (now) => {
    if (last !== undefined) frames.push(now - last);
    last = now;
    region.scrollTop += 60;
    if (frames.length < 120) requestAnimationFrame(step);
    else resolve(frames.sort((a, b) => a - b)[Math.floor(frames.length * 0.95)]);
  };
  requestAnimationFrame(step);
})`;

export const page: readonly Measurement[] = [pageWith(1), pageWith(500)];
