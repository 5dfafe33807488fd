/**
 * Makes the plugin's OCI artifact as an image layout, which `skopeo copy --all oci:FOLDER:TAG docker://…` brings to a registry:
 * for `gitlab-runner fleeting install`, which wants an index of platforms, and of each one layer with the annotation below
 * and plain files in `plugin/`.
 *
 *     tsx scripts/oci-layout.ts FOLDER        needs a build
 */
import { createHash } from "node:crypto";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import { create } from "tar";

const ROOT = join(import.meta.dirname, "..");
const LAYER_ANNOTATION = "com.gitlab.fleeting.layer";
/** The plugin is JavaScript, so all share a layer. */
const ARCHITECTURES = ["amd64", "arm64"] as const;
const TYPE = "application/vnd.oci.image";

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
}

const [folder = "release/oci"] = process.argv.slice(2);
const { version } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as { version: string };
const made = new Date(Number(process.env["SOURCE_DATE_EPOCH"] ?? 0) * 1_000);
await mkdir(join(folder, "blobs/sha256"), { recursive: true });

const files = await tarOfPlugin();
const layer = await addBlob(gzipSync(files, { level: 9 }), `${TYPE}.layer.v1.tar+gzip`);
const manifests = await Promise.all(ARCHITECTURES.map(addImage));
const index = await addJson({ schemaVersion: 2, mediaType: `${TYPE}.index.v1+json`, manifests }, "index");
const [major, minor] = version.split(".");
const tags = [version, `${major}.${minor}`, major, "latest"];
const references = tags.map((tag) => ({
  ...index,
  annotations: { "org.opencontainers.image.ref.name": tag },
}));
await writeFile(join(folder, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: references }));
await writeFile(join(folder, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));

async function addImage(architecture: string) {
  const platform = { os: "linux", architecture };
  const config = {
    ...platform,
    created: made.toISOString(),
    config: { Entrypoint: ["/plugin/plugin"], Env: [`FLEETING_PLUGIN_PKG_VERSION=${version}`] },
    rootfs: { type: "layers", diff_ids: [digestOf(files)] },
  };
  const manifest = {
    schemaVersion: 2,
    mediaType: `${TYPE}.manifest.v1+json`,
    config: await addJson(config, "config"),
    layers: [{ ...layer, annotations: { [LAYER_ANNOTATION]: version } }],
  };
  return { ...(await addJson(manifest, "manifest")), platform };
}

/** The same bytes each time. */
async function tarOfPlugin(): Promise<Buffer> {
  const staging = await mkdtemp(join(tmpdir(), "fleetingd-oci-"));
  try {
    await mkdir(join(staging, "plugin"));
    await copyFile(join(ROOT, "dist/plugin.cjs"), join(staging, "plugin/plugin"));
    await copyFile(join(ROOT, "dist/licenses.txt"), join(staging, "plugin/licenses.txt"));
    await chmod(join(staging, "plugin/plugin"), 0o755);
    await chmod(join(staging, "plugin/licenses.txt"), 0o644);
    const paths = ["plugin/plugin", "plugin/licenses.txt"];
    return await buffer(create({ cwd: staging, portable: true, mtime: made }, paths));
  } finally {
    await rm(staging, { recursive: true });
  }
}

function addJson(value: object, kind: "config" | "manifest" | "index"): Promise<Descriptor> {
  return addBlob(Buffer.from(JSON.stringify(value)), `${TYPE}.${kind}.v1+json`);
}

async function addBlob(content: Buffer, mediaType: string): Promise<Descriptor> {
  const digest = digestOf(content);
  await writeFile(join(folder, "blobs", digest.replace(":", "/")), content);
  return { mediaType, digest, size: content.length };
}

function digestOf(content: Buffer): string {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}
