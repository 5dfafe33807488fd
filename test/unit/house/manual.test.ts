/** What is made of the command line's own definitions: it knows every command, and shells take it. */
import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { manualFiles } from "../../../scripts/manual.ts";
import { run } from "../../../src/host/run.ts";
import { needsPrograms } from "../../helpers/namespace.ts";

const files = manualFiles("1.2.3");
const text = (name: string): string => files[name] ?? assert.fail(`there is no ${name}`);
const lacks = { zsh: await needsPrograms("zsh"), fish: await needsPrograms("fish") };
const INSTANCE = "fl-p3g3mg6swb75";

describe("the manual page", () => {
  const page = text("man/fleetingd.8").replaceAll("\\-", "-");

  test("has every command with its options", () => {
    for (const part of [
      "status [options]",
      "image export [options] <archive> [pool]",
      "ssh [options] <instance>",
    ])
      assert.ok(page.includes(`.SS fleetingd ${part}`), part);
    assert.match(page, /\.SS fleetingd purge [\s\S]*\.B --images\nThe base and golden images, too\./);
    assert.doesNotMatch(page, /`/);
  });

  test("begins no line with what troff takes for a request by chance", () => {
    for (const line of page.split("\n").filter((one) => /^[.']/.test(one)))
      assert.match(line, /^\.(TH|SH|SS|PP|TP|B|BR|I|RI|nf|fi)\b/);
  });
});

describe("completions", () => {
  let folder: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "completions-"));
    for (const name of ["bash", "zsh", "fish"])
      await writeFile(join(folder, `fleetingd.${name}`), text(`completions/fleetingd.${name}`));
    const answer = JSON.stringify({ instances: [{ id: INSTANCE, state: "ready" }] }, null, 2);
    await writeFile(join(folder, "fleetingd"), `#!/bin/sh\n[ "$1 $2" = "ps --json" ] && echo '${answer}'\n`);
    await chmod(join(folder, "fleetingd"), 0o755);
  });
  after(() => rm(folder, { recursive: true }));

  const inShell = async (shell: string, script: string): Promise<string[]> => {
    const env = { PATH: `${folder}:${process.env["PATH"]}`, HOME: folder };
    const { stdout } = await run(shell, ["-c", script], { cwd: folder, env });
    return stdout.split("\n").filter((line) => line !== "");
  };
  const inBash = (...words: string[]): Promise<string[]> =>
    inShell(
      "bash",
      `. ./fleetingd.bash; COMP_WORDS=(fleetingd ${words.join(" ")} ""); COMP_CWORD=${words.length + 1}; _fleetingd; printf '%s\\n' "\${COMPREPLY[@]}"`,
    );

  test("of bash know commands, their options and instances, wherever global options stand", async () => {
    assert.ok((await inBash()).includes("doctor"));
    assert.deepEqual(await inBash("image"), ["export", "import", "--help"]);
    assert.deepEqual(await inBash("--config", "status", "purge"), ["--images", "--yes", "--help"]);
    assert.deepEqual(await inBash("explain"), ["--json", "--help", INSTANCE]);
    assert.ok((await inBash("--config")).includes("fleetingd.bash"));
  });

  test("of zsh are valid", { skip: lacks.zsh }, async () => {
    await inShell("zsh", "zsh -n fleetingd.zsh");
  });

  test("of fish know the same", { skip: lacks.fish }, async () => {
    const complete = (line: string) =>
      inShell("fish", `source fleetingd.fish; complete --do-complete '${line}' | cut -f 1`);
    assert.ok((await complete("fleetingd ")).includes("doctor"));
    assert.deepEqual((await complete("fleetingd image ")).sort(), ["export", "import"]);
    assert.ok((await complete("fleetingd explain ")).includes(INSTANCE));
    assert.ok((await complete("fleetingd purge --")).includes("--images"));
  });
});
