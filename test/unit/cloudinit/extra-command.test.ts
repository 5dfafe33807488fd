import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { shellCommandOf } from "../../../src/cloudinit/extra-command.ts";

// As in the README of the plugin that this one replaces.
const DOCKER =
  '"echo \\"{ \\\\\\"features\\\\\\": { \\\\\\"buildkit\\\\\\": true } }\\" | tee -a /etc/docker/daemon.json"';

describe("shellCommandOf", () => {
  test("an entry that is one double-quoted YAML string is unwrapped", () => {
    assert.equal(
      shellCommandOf(DOCKER),
      'echo "{ \\"features\\": { \\"buildkit\\": true } }" | tee -a /etc/docker/daemon.json',
    );
    assert.equal(shellCommandOf(' "a: b # c" '), "a: b # c");
  });

  for (const command of [
    "apt install -y podman",
    'su - ubuntu -c "whoami"',
    '"my program" --with "arguments"',
    '"$HOME/bin/x" "y"',
    '"unknown \\q"',
    '"a" # comment "b"',
    '"',
    '""x""',
    "'single'",
    "- not: yaml",
  ]) {
    test(`left as it is: ${command}`, () => assert.equal(shellCommandOf(command), command));
  }
});
