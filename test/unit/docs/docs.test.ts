/** What the documentation says that a program can check: links, configuration, commands, messages. */
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { describe, test } from "node:test";
import { parsePluginConfig } from "../../../src/config/plugin-config.ts";
import { plainValue, readToml } from "../../../src/config/toml.ts";
import { parseConfig } from "../../../src/config.ts";
import { exists } from "../../../src/host/files.ts";
import { run } from "../../../src/host/run.ts";

const ROOT = join(import.meta.dirname, "../../..");
/** As it is installed: from its sources it would take seconds to start, and it is started for every command. */
const CLI = join(ROOT, "bin/fleetingd");

interface Page {
  path: string;
  text: string;
}

const pages = await readPages();

async function readPages(): Promise<Page[]> {
  const names = (await readdir(join(ROOT, "docs"))).filter((name) => name.endsWith(".md"));
  const paths = [join(ROOT, "README.md"), ...names.map((name) => join(ROOT, "docs", name))];
  return Promise.all(paths.map(async (path) => ({ path, text: await readFile(path, "utf8") })));
}

function blocksOf({ text }: Page, language: string): string[] {
  return [...text.matchAll(/^ *```(\w*)\n(.*?)^ *```$/gms)]
    .filter((match) => match[1] === language)
    .map((match) => match[2] ?? "");
}

/** As GitLab and GitHub make them of headings. */
function anchorsOf({ text }: Page): Set<string> {
  const prose = text.replaceAll(/^```.*?^```$/gms, "");
  const headings = [...prose.matchAll(/^#+ (.*)$/gm)].map((match) => match[1] ?? "");
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, "")
        .replaceAll(" ", "-"),
    ),
  );
}

describe("links", () => {
  for (const page of pages) {
    test(relative(ROOT, page.path), async () => {
      for (const [, target = ""] of page.text.matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^https?:/.test(target)) continue;
        const [file = "", anchor] = target.split("#");
        const path = file === "" ? page.path : join(dirname(page.path), file);
        assert.ok(await exists(path), `${target} does not exist`);
        const linked = pages.find((other) => other.path === path);
        if (anchor !== undefined)
          assert.ok(linked && anchorsOf(linked).has(anchor), `${target}: no such heading`);
      }
    });
  }
});

describe("TOML", () => {
  for (const page of pages.filter((one) => blocksOf(one, "toml").length > 0)) {
    test(relative(ROOT, page.path), () => {
      const blocks = blocksOf(page, "toml");
      const ours = blocks.filter((block) => !/^\[+runners/m.test(block));
      // A page's pools may use the images of another of its blocks, and a runner the pools.
      const images = ours.filter((block) => block.startsWith("[images."));
      for (const block of ours) {
        const others = images.filter((other) => other !== block);
        parseConfig([...others, block].map((text, index) => ({ path: `block ${index}`, text })));
      }
      const known = parseConfig([{ path: "", text: "[pools.ci]\n" }]);
      for (const block of blocks.filter((one) => !ours.includes(one))) {
        parsePluginConfig(JSON.stringify(pluginConfigOf(block)), known);
      }
    });
  }
});

/** The `plugin_config` of a block of the runner's configuration; undefined if it has none. */
function pluginConfigOf(block: string): unknown {
  const result = readToml("block", block);
  assert.ok("table" in result, "syntaxError" in result ? result.syntaxError : "");
  const { runners } = JSON.parse(JSON.stringify(plainValue(result.table))) as { runners: unknown };
  const [runner] = [runners].flat() as { autoscaler?: { plugin_config?: unknown } }[];
  return runner?.autoscaler?.plugin_config ?? null;
}

describe("the command line", () => {
  const texts = new Map<string, string>();
  const helpOf = async (words: string[]): Promise<string> => {
    const key = words.join(" ");
    if (!texts.has(key)) texts.set(key, (await run(CLI, [...words, "--help"])).stdout);
    return texts.get(key) ?? "";
  };
  const lines = pages.flatMap((page) => [
    ...[...page.text.matchAll(/`(fleetingd [^`\n]+)`/g)].map((match) => match[1] ?? ""),
    ...[...blocksOf(page, "sh"), ...blocksOf(page, "console")]
      .flatMap((block) => block.split("\n"))
      .map((line) => line.replace(/^\$ /, "").replace(/\s+#.*$/, ""))
      .filter((line) => /^fleetingd (?!\d)/.test(line)),
  ]);

  test("has every command and option that is named", async () => {
    assert.ok(lines.length > 20);
    for (const line of new Set(lines)) {
      const [, ...words] = line.split(/\s+/);
      const options = words.filter((word) => word.startsWith("--"));
      const [first = "", second = ""] = words.filter((word) => !word.startsWith("-"));
      const command = ["config", "executor", "image"].includes(first) ? [first, second] : [first];
      for (const name of command)
        assert.match((await helpOf([])) + (await helpOf([first])), new RegExp(`^  ${name}\\b`, "m"), line);
      const known = (await helpOf([])) + (await helpOf(command));
      for (const option of options) assert.ok(known.includes(option), `${line}: there is no ${option}`);
    }
  });

  test("is documented as a whole", async () => {
    const page = pages.find(({ path }) => path.endsWith("docs/cli.md"))?.text ?? "";
    const commands = [...(await helpOf([])).matchAll(/^ {2}([a-z][a-z-]*)(?: [[<].*?[\]>])*\s/gm)].map(
      (match) => match[1] ?? "",
    );
    assert.ok(commands.length >= 8, commands.join(" "));
    for (const name of commands.filter((command) => command !== "help")) {
      assert.match(page, new RegExp(`^### fleetingd ${name}\\b`, "m"));
      const words = name === "config" ? ["config", "check"] : [name];
      for (const [option] of (await helpOf(words)).matchAll(/--[a-z-]+/g))
        assert.ok(page.includes(option), `${name} ${option}`);
    }
  });
});

test("every message that troubleshooting quotes is in the source", async () => {
  const page = pages.find(({ path }) => path.endsWith("troubleshooting.md"));
  assert.ok(page);
  const source = await sourceText();
  const quoted = blocksOf(page, "text").flatMap((block) => block.trimEnd().split("\n"));
  assert.ok(quoted.length > 40);
  const missing = quoted.filter((line) => !line.split("…").every((part) => source.includes(part.trim())));
  assert.deepEqual(missing, []);
});

/** All of src/ with its strings as the program has them: joined where a line would have been too long. */
async function sourceText(): Promise<string> {
  const names = (await readdir(join(ROOT, "src"), { recursive: true })).filter((name) =>
    name.endsWith(".ts"),
  );
  const texts = await Promise.all(names.map((name) => readFile(join(ROOT, "src", name), "utf8")));
  return texts
    .join("\n")
    .replaceAll(/(["`])\s*\+\s*(["`])/g, "")
    .replaceAll(/\\n/g, "");
}
