/** How programs in a golden image find the host's registry mirror and package cache. */

export interface WrittenFile {
  path: string;
  permissions: string;
  content: string;
}

export interface ServiceUrls {
  /** Of a mirror of Docker Hub, without a path; undefined: there is none. */
  registryMirror?: string | undefined;
  /** Of an HTTP proxy for packages; undefined: there is none. */
  packageCache?: string | undefined;
}

/** Asks whether the cache answers: an image must not depend on it. */
const CACHE_PROBE = "/usr/lib/fleetingd/package-cache";

export function serviceFiles({ registryMirror, packageCache }: ServiceUrls): WrittenFile[] {
  return [
    ...(registryMirror === undefined ? [] : mirrorFiles(new URL(registryMirror))),
    ...(packageCache === undefined ? [] : cacheFiles(new URL(packageCache))),
  ];
}

/** All of these programs ask Docker Hub itself where the mirror does not answer. */
function mirrorFiles({ origin, host }: URL): WrittenFile[] {
  return [
    {
      path: "/run/fleetingd-prebuild/docker-daemon.json",
      permissions: "0644",
      content: `${JSON.stringify({ "registry-mirrors": [origin] }, undefined, 2)}\n`,
    },
    {
      path: "/etc/containers/registries.conf.d/50-fleetingd.conf",
      permissions: "0644",
      content: `# Podman, Buildah, Skopeo
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "${host}"
insecure = true
`,
    },
  ];
}

function cacheFiles({ origin, hostname, port }: URL): WrittenFile[] {
  return [
    {
      path: CACHE_PROBE,
      permissions: "0755",
      content: `#!/bin/sh
# Tells apt to use the host's package cache if that answers.
if timeout 2 bash -c '</dev/tcp/${hostname}/${port}' 2>/dev/null; then echo ${origin}; else echo DIRECT; fi
`,
    },
    {
      path: "/etc/apt/apt.conf.d/80fleetingd-package-cache",
      permissions: "0644",
      content: `Acquire::http::Proxy-Auto-Detect "${CACHE_PROBE}";\n`,
    },
  ];
}
