/** Who may import whom: docs/architecture.md draws it, this holds it. A broken rule is a broken build. */

const GROUND = "^src/(errors|events|log|version)\\.ts$";
const DOMAINS = ["hypervisor", "network", "images", "cloudinit"];
const CLOUDS = ["incus", "openstack", "vcd", "libvirt"];
/** Erased by the compiler: a type says what is passed, and calls nothing. */
const CALLED = { dependencyTypesNot: ["type-only"] };

/** What is in `from` imports, of our own modules, only itself and `allowed`. */
function only(name, from, allowed, comment) {
  return {
    name,
    comment,
    severity: "error",
    from: { path: from },
    to: { path: "^src/", pathNot: [from, GROUND, ...allowed] },
  };
}

module.exports = {
  forbidden: [
    {
      name: "no-cycles",
      comment: "Modules that need each other are one module, or lack a third.",
      severity: "error",
      from: {},
      to: { circular: true },
    },
    only(
      "ground-imports-nothing",
      "^src/(errors|events|log|version)\\.ts$",
      [],
      "Everything stands on these.",
    ),
    only("host-stands-on-the-ground", "^src/host/", [], "The door to the operating system knows no VM."),
    ...DOMAINS.map((domain) =>
      only(
        `${domain}-knows-no-sibling`,
        `^src/${domain}/`,
        ["^src/host/"],
        "hypervisor, network, images and cloudinit meet only in sources/local, which passes plain data between them.",
      ),
    ),
    only(
      "pool-knows-no-vm",
      "^src/pool/",
      ["^src/host/", "^src/sources/source\\.ts$"],
      "The pool knows instances and the contract of their sources: no TAP, no disk.",
    ),
    only("source-contract-stands-alone", "^src/sources/source\\.ts$", [], "A contract depends on nothing."),
    only(
      "local-joins-the-domains",
      "^src/sources/local/",
      ["^src/host/", "^src/sources/source\\.ts$", ...DOMAINS.map((domain) => `^src/${domain}/`)],
      "The local source is the one place that joins the four domains, and knows nothing above it.",
    ),
    only(
      "clouds-are-alike",
      "^src/sources/remote/",
      ["^src/host/", "^src/sources/source\\.ts$", "^src/cloudinit/keys\\.ts$"],
      "What all clouds have in common knows none of them.",
    ),
    only(
      "composite-joins-sources",
      "^src/sources/composite/",
      ["^src/host/", "^src/sources/source\\.ts$", "^src/sources/remote/health\\.ts$"],
      "What joins sources knows their contract, not them.",
    ),
    ...CLOUDS.map((cloud) =>
      only(
        `${cloud}-is-a-cloud-like-any`,
        `^src/sources/${cloud}/`,
        ["^src/host/", "^src/sources/(source\\.ts$|remote/)", "^src/cloudinit/"],
        "A cloud knows the contract, the host, and what machines are told at their first boot.",
      ),
    ),
    only(
      "metrics-translate",
      "^src/metrics/",
      ["^src/host/"],
      "Metrics are made of events and of plain data: no pool, no source, no VM.",
    ),
    only(
      "telemetry-translates",
      "^src/telemetry/",
      ["^src/host/", "^src/metrics/metrics\\.ts$"],
      "Traces are made of events, OpenTelemetry's metrics of Prometheus': no pool, no source, no VM.",
    ),
    {
      name: "opentelemetry-is-optional",
      comment: "Whoever does not ask for it does not load it.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/telemetry/(exporters|life-spans|metric-data)\\.ts$" },
      to: { path: "^node_modules/@opentelemetry/" },
    },
    {
      name: "exporters-are-loaded-late",
      comment: "A chunk of its own, for those who ask for it.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/telemetry/exporters\\.ts$" },
      to: { path: "^src/telemetry/(exporters|life-spans|metric-data)\\.ts$", dynamic: false },
    },
    only(
      "web-shows",
      "^src/web/",
      [
        "^src/host/",
        "^src/api/(events|images|status|text|timeline)\\.ts$",
        "^src/metrics/distributions\\.ts$",
      ],
      "The web page's server is told plain data: no pool, no source, no VM.",
    ),
    only(
      "page-knows-messages",
      "^src/page/",
      [
        "^src/web/messages\\.ts$",
        "^src/api/(events|images|status|text)\\.ts$",
        "^src/metrics/distributions\\.ts$",
      ],
      "The page knows what it is told.",
    ),
    {
      name: "page-runs-in-browsers",
      comment: "A browser has no Node and needs little: of all others the page has types.",
      severity: "error",
      from: { path: "^src/page/" },
      to: { pathNot: "^src/page/|^src/api/text\\.ts$|^node_modules/preact/", ...CALLED },
    },
    {
      name: "only-metrics-know-prometheus",
      comment: "Whoever has something to count tells of an event.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/metrics/" },
      to: { path: "^node_modules/prom-client/" },
    },
    only(
      "plugin-is-thin",
      "^src/plugin/",
      ["^src/host/", "^src/gen/", "^src/config/"],
      "The plugin translates; pools, VMs and the daemon are across the socket.",
    ),
    {
      name: "plugin-starts-fast",
      comment:
        "The runner waits for the handshake of one plugin for each of its entries: nothing heavy, however indirectly.",
      severity: "error",
      from: { path: "^src/plugin/main\\.ts$" },
      to: {
        path: "^node_modules/(zod|execa|handlebars|commander|yaml|toml-eslint-parser|got|tar|ssh2|node-ssh|proper-lockfile)/",
        reachable: true,
      },
    },
    {
      name: "only-host-runs-programs",
      comment: "One door to the operating system: deadlines, reaping and identity checks are kept there.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/host/" },
      to: { path: "^(node:)?child_process$|^node_modules/(execa|proper-lockfile)/", ...CALLED },
    },
    {
      name: "nobody-imports-a-program",
      comment: "What two programs share is in a module of its own.",
      severity: "error",
      from: {},
      to: { path: "^src/(main\\.ts|plugin/main\\.ts|page/main\\.tsx)$" },
    },
    {
      name: "no-dead-modules",
      comment: "No program reaches this module: remove it.",
      severity: "error",
      from: { path: "^src/(main\\.ts|plugin/main\\.ts|page/main\\.tsx)$" },
      to: {
        path: "^src/",
        pathNot: "^src/(gen/|main\\.ts|plugin/main\\.ts|page/main\\.tsx)",
        reachable: false,
      },
    },
    {
      name: "no-development-packages",
      comment: "What is installed has only what package.json calls dependencies.",
      severity: "error",
      from: { path: "^src/" },
      to: { dependencyTypes: ["npm-dev", "npm-no-pkg", "npm-unknown", "unknown", "undetermined"] },
    },
    {
      name: "no-unresolvable",
      comment: "There is no such module.",
      severity: "error",
      from: { path: "^src/" },
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "^src/gen/google/" },
    tsConfig: { fileName: "tsconfig.json" },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default", "types"],
    },
  },
};
