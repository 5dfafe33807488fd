import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  type DocumentedKey,
  documentedKeys,
  EXAMPLE_PATH,
  METRICS_PATH,
  PAGE_PATH,
  renderExample,
  renderMetricsPage,
  renderPage,
  renderSchema,
  SCHEMAS,
  SCHEMAS_PATH,
  TABLES,
} from "../../../scripts/docs.ts";
import { parsePluginConfig } from "../../../src/config/plugin-config.ts";
import { parseConfig } from "../../../src/config.ts";

const STALE = "it is not up to date: run `npx tsx scripts/docs.ts`";

describe("the documentation of the configuration", () => {
  test("docs/configuration.md is what the schema says", async () => {
    const page = await readFile(PAGE_PATH, "utf8");
    assert.ok(renderPage(page) === page, STALE);
  });

  test("docs/metrics.md has every metric", async () => {
    const page = await readFile(METRICS_PATH, "utf8");
    assert.ok(renderMetricsPage(page) === page, STALE);
  });

  for (const [name, schema] of Object.entries(SCHEMAS)) {
    test(`docs/schemas/${name}.json is what the program checks`, async () => {
      assert.ok((await readFile(join(SCHEMAS_PATH, `${name}.json`), "utf8")) === renderSchema(schema), STALE);
    });
  }

  test("systemd/config.toml is what the schema says", async () => {
    assert.ok((await readFile(EXAMPLE_PATH, "utf8")) === renderExample(), STALE);
  });

  for (const [place, shape] of Object.entries(TABLES)) {
    test(`every key of ${place} is documented, with an example and a default that are valid`, () => {
      for (const key of documentedKeys(shape)) {
        assert.match(key.meaning, /^\S.*\.$/s, `${key.name}: the meaning is whole sentences`);
        assert.ok(key.required || key.defaultText !== undefined || key.defaultValue !== undefined, key.name);
        assertValid(key, key.example);
        if (key.defaultValue !== undefined) assertValid(key, key.defaultValue);
      }
    });
  }

  test("no two keys of a table have the same meaning", () => {
    for (const shape of Object.values(TABLES)) {
      const meanings = documentedKeys(shape).map((key) => key.meaning);
      assert.equal(new Set(meanings).size, meanings.length);
    }
  });

  test("the installed example sets nothing, and stays valid with every line uncommented", () => {
    const example = renderExample();
    const { pools, ...rest } = parseConfig([{ path: EXAMPLE_PATH, text: example }]);
    assert.deepEqual(Object.keys(pools), []);
    assert.deepEqual(rest.daemon, parseConfig([]).daemon);
    const uncommented = example.replaceAll(/^#(?! )/gm, "");
    const all = parseConfig([{ path: EXAMPLE_PATH, text: uncommented }]);
    assert.deepEqual(Object.keys(all.images), ["default", "ubuntu-cloud", "debian-packages", "files"]);
    assert.equal(all.pools["default"]?.memoryMiB, 2048);
  });

  test("the page's own examples are valid", async () => {
    const page = await readFile(PAGE_PATH, "utf8");
    const blocks = [...page.matchAll(/```toml\n(.*?)```/gs)].map((match) => match[1] ?? "");
    assert.equal(blocks.length, 3);
    for (const block of blocks) {
      const asPool = block.replace("[runners.autoscaler.plugin_config]", "[pools.x]");
      if (asPool === block) parseConfig([{ path: "page", text: block }]);
      else if (block.includes('pool = "ci"'))
        parsePluginConfig('{"pool":"ci"}', parseConfig([{ path: "", text: "[pools.ci]" }]));
      else assert.ok(parseConfig([{ path: "page", text: asPool }]).pools["x"] !== undefined);
    }
  });
});

function assertValid(key: DocumentedKey, value: unknown): void {
  const result = key.schema.safeParse(value);
  assert.ok(result.success, `${key.name} = ${JSON.stringify(value)}: ${result.error?.message}`);
}
