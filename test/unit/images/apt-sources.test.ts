import assert from "node:assert/strict";
import { test } from "node:test";
import { entriesForSuite } from "../../../src/images/apt-sources.ts";

test("one-line sources: only the suite and its updates, without comments and source packages", () => {
  const text = `# deb http://old bookworm main
deb http://deb.debian.org/debian bookworm main contrib # the usual
deb [arch=amd64 signed-by=/k.gpg] http://security.debian.org/debian-security bookworm-security main
deb-src http://deb.debian.org/debian bookworm main
deb https://download.docker.com/linux/debian bookworm stable
deb http://deb.debian.org/debian trixie main
`;
  assert.deepEqual(entriesForSuite(text, "list", "bookworm"), [
    "deb http://deb.debian.org/debian bookworm main contrib",
    "deb [arch=amd64 signed-by=/k.gpg] http://security.debian.org/debian-security bookworm-security main",
  ]);
});

test("deb822 sources: every URI with every suite; disabled and foreign ones are left out", () => {
  const text = `# comment
Types: deb deb-src
URIs: http://one/debian
Suites: trixie trixie-updates trixie-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
Enabled: no
URIs: http://two/debian
Suites: trixie
Components: main

Types: deb
URIs: https://deb.nodesource.com/node_20.x
Suites: nodistro
Components: main
`;
  const key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
  assert.deepEqual(entriesForSuite(text, "sources", "trixie"), [
    `deb ${key} http://one/debian trixie main`,
    `deb ${key} http://one/debian trixie-updates main`,
  ]);
});
