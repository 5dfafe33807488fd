import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSha256Sums } from "../../../src/images/sums.ts";

const A = "a".repeat(64);
const B = "B".repeat(64);

test("reads what sha256sum writes, in text and binary mode", () => {
  const sums = parseSha256Sums(`${A}  plain\n${B} *binary.img\n${A} *./dotted\n${A} *crlf\r\n`);
  assert.deepEqual(
    [...sums],
    [
      ["plain", A],
      ["binary.img", B.toLowerCase()],
      ["dotted", A],
      ["crlf", A],
    ],
  );
});

test("leaves out everything else", () => {
  const text = `# comment\n\n${A.slice(1)} *short\n${A}\n${A} *two words\n ${A} *indented\n`;
  assert.deepEqual([...parseSha256Sums(text)], []);
});
