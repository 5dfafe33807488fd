/** A process of its own that fetches an image: `node --import tsx fetch-image.ts JSON`; prints the image as JSON. */

import type { UbuntuCloudSource } from "../../src/images/image-config.ts";
import { ensureUbuntuCloud } from "../../src/images/ubuntu-cloud.ts";
import { createLogger } from "../../src/log.ts";

const { source, diskDirectory } = JSON.parse(process.argv[2] ?? "") as {
  source: UbuntuCloudSource;
  diskDirectory: string;
};
const image = await ensureUbuntuCloud(source, {
  diskDirectory,
  logger: createLogger({ format: "text", level: "info" }),
  retryDelayMs: 50,
});
process.stdout.write(JSON.stringify(image));
