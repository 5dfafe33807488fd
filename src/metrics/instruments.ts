/**
 * Every metric of the daemon. docs/metrics.md and monitoring/ name them, and tests hold both to this list.
 *
 * Labels are bounded: pools and sources are the configuration's, and all other values are words of the program's own. What differs from
 * one instance or runner to the next is no label.
 */
import { Counter, Gauge, Histogram, Registry } from "prom-client";

const BOOT_SECONDS = [0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600];
const WAIT_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600];
const CALL_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];
const DELETE_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120];
const IMAGE_SECONDS = [1, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200];
const CREATIONS_BY = ["pool"] as const;

export type Instruments = ReturnType<typeof createInstruments>["instruments"];

export interface Definition {
  name: string;
  kind: "gauge" | "counter" | "histogram";
  help: string;
  labels: readonly string[];
}

export function createInstruments() {
  const registry = new Registry();
  const registers = [registry];
  const definitions: Definition[] = [];
  const gauge: MakeGauge = (name, help, labels = []) => {
    definitions.push({ name, kind: "gauge", help, labels });
    return new Gauge({ name, help, labelNames: [...labels], registers });
  };
  const counter: MakeCounter = (name, help, labels = []) => {
    definitions.push({ name, kind: "counter", help, labels });
    return new Counter({ name, help, labelNames: [...labels], registers });
  };
  const histogram: MakeHistogram = (name, help, labels, buckets) => {
    definitions.push({ name, kind: "histogram", help, labels });
    return new Histogram({ name, help, labelNames: [...labels], buckets, registers });
  };
  const instruments = {
    ...lifeOfInstances(counter, histogram),
    ...claims(counter, histogram),
    ...images(counter, gauge, histogram),
    ...pools(counter, gauge),
    ...sources(gauge),
    ...hostAndDaemon(counter, gauge, histogram),
  };
  return { registry, definitions, instruments };
}

type MakeGauge = <L extends string = never>(name: string, help: string, labels?: readonly L[]) => Gauge<L>;
type MakeCounter = <L extends string = never>(
  name: string,
  help: string,
  labels?: readonly L[],
) => Counter<L>;
type MakeHistogram = <L extends string>(
  name: string,
  help: string,
  labels: readonly L[],
  buckets: number[],
) => Histogram<L>;

function lifeOfInstances(counter: MakeCounter, histogram: MakeHistogram) {
  return {
    created: counter("fleetingd_instances_created_total", "Instances that got ready.", CREATIONS_BY),
    deleted: counter("fleetingd_instances_deleted_total", "Instances that were torn down.", CREATIONS_BY),
    failures: counter(
      "fleetingd_instance_failures_total",
      "Steps of instances that failed: create (by the phase that it failed in), delete, and run for those that ended by themselves.",
      ["pool", "operation", "phase"],
    ),
    fallbacks: counter("fleetingd_fallbacks_total", "Instances that were made in a slower way.", [
      "pool",
      "to",
    ]),
    creationSeconds: histogram(
      "fleetingd_instance_creation_duration_seconds",
      "From the first step of an instance until it is ready for a job.",
      CREATIONS_BY,
      BOOT_SECONDS,
    ),
    phaseSeconds: histogram(
      "fleetingd_instance_phase_duration_seconds",
      "The phases of the creation of instances that got ready.",
      ["pool", "phase"],
      BOOT_SECONDS,
    ),
    wakeSeconds: histogram(
      "fleetingd_instance_wake_duration_seconds",
      'From the beginning of an instance\'s waking until it is ready for a job again (idle_mode = "paused").',
      CREATIONS_BY,
      WAIT_SECONDS,
    ),
    deletionSeconds: histogram(
      "fleetingd_instance_deletion_duration_seconds",
      "The teardown of an instance.",
      CREATIONS_BY,
      DELETE_SECONDS,
    ),
  };
}

function claims(counter: MakeCounter, histogram: MakeHistogram) {
  return {
    claimed: counter(
      "fleetingd_instances_claimed_total",
      "Instances that a runner has claimed: warm ones, those that rested, those that were creating, and new ones.",
      ["pool", "from"],
    ),
    rejected: counter(
      "fleetingd_instances_rejected_total",
      "Instances that a runner asked for and did not get, by the limit that stood against it.",
      ["pool", "limit"],
    ),
    claimSeconds: histogram(
      "fleetingd_claim_duration_seconds",
      "How long a runner's request for instances took to answer.",
      ["pool"],
      CALL_SECONDS,
    ),
    claimWaitSeconds: histogram(
      "fleetingd_claim_wait_seconds",
      "From the claim of an instance until it is ready; 0 for a warm one.",
      ["pool"],
      WAIT_SECONDS,
    ),
  };
}

function images(counter: MakeCounter, gauge: MakeGauge, histogram: MakeHistogram) {
  return {
    prebuilds: counter("fleetingd_prebuilds_total", "Prebuilds that ended: made, found or failed.", [
      "pool",
      "result",
    ]),
    prebuildSeconds: histogram(
      "fleetingd_prebuild_duration_seconds",
      "How long the parts of a new golden image took: base, prebuild.",
      ["pool", "part"],
      IMAGE_SECONDS,
    ),
    prebuildRunning: gauge("fleetingd_prebuild_running", "1 while a golden image is being made.", ["pool"]),
    prebuildFailed: gauge("fleetingd_prebuild_failed", "1 if the last prebuild failed.", ["pool"]),
    imageAge: gauge(
      "fleetingd_golden_image_age_seconds",
      "Age of the golden image that new instances are made of; absent without one.",
      ["pool"],
    ),
    gcRuns: counter("fleetingd_image_gc_runs_total", "Searches for images that nobody needs."),
    gcRemoved: counter("fleetingd_image_gc_removed_total", "Images that were removed."),
    gcBytes: counter("fleetingd_image_gc_removed_bytes_total", "What removed images took on their disk."),
    gcSeconds: histogram(
      "fleetingd_image_gc_duration_seconds",
      "How long a search for images that nobody needs took, and their removal.",
      [],
      CALL_SECONDS.concat([10, 30, 60]),
    ),
  };
}

function pools(counter: MakeCounter, gauge: MakeGauge) {
  return {
    instances: gauge("fleetingd_instances", "Instances by state.", ["pool", "state", "claimed"]),
    warmDesired: gauge("fleetingd_warm_desired", "Warm instances that are wanted.", ["pool"]),
    warm: gauge("fleetingd_warm_instances", "Instances that are ready and wait for a job.", ["pool"]),
    maxInstances: gauge("fleetingd_pool_max_instances", "The configured maximum.", ["pool"]),
    capacity: gauge(
      "fleetingd_pool_capacity",
      "How many instances there may be at the moment: less than the maximum where the host has no room.",
      ["pool"],
    ),
    limited: gauge(
      "fleetingd_pool_limited",
      "1 while the limit keeps a pool from as many instances as configured.",
      ["pool", "limit"],
    ),
    draining: gauge("fleetingd_pool_draining", "1 while the pool makes no instances.", ["pool"]),
    breakerOpen: gauge("fleetingd_circuit_breaker_open", "1 while creation is held back after a failure.", [
      "pool",
    ]),
    breakerSeconds: gauge(
      "fleetingd_circuit_breaker_retry_seconds",
      "How long until creation is tried again.",
      ["pool"],
    ),
    breakerTrips: counter("fleetingd_circuit_breaker_trips_total", "How often creation was held back.", [
      "pool",
    ]),
    plans: counter("fleetingd_plans_total", "How often the next steps of a pool were planned.", ["pool"]),
    planSeconds: counter("fleetingd_plan_seconds_total", "How long planning took in all.", ["pool"]),
    plannedAt: gauge(
      "fleetingd_last_plan_timestamp_seconds",
      "When a pool was planned last; it hangs if this stands still.",
      ["pool"],
    ),
    diskFree: gauge("fleetingd_disk_free_bytes", "What is free where a pool has its disks.", ["pool"]),
  };
}

/** Of a pool that has other sources than this host. */
function sources(gauge: MakeGauge) {
  const labels = ["pool", "source"] as const;
  return {
    sourceState: gauge(
      "fleetingd_source_state",
      "1 for how a source does: ok, full (it works, and has no room) or failing (nothing is made there).",
      [...labels, "state"],
    ),
    sourceRetry: gauge(
      "fleetingd_source_retry_seconds",
      "How long until a source that fails is tried again.",
      labels,
    ),
    sourceInstances: gauge(
      "fleetingd_source_instances",
      "What a source has of the pool's instances.",
      labels,
    ),
    sourceMaximum: gauge(
      "fleetingd_source_max_instances",
      "How many it may have; absent where it has no maximum of its own.",
      labels,
    ),
    sourceCost: gauge(
      "fleetingd_source_cost_per_hour",
      "What an instance costs there, as configured.",
      labels,
    ),
  };
}

function hostAndDaemon(counter: MakeCounter, gauge: MakeGauge, histogram: MakeHistogram) {
  return {
    info: gauge("fleetingd_info", "1; the daemon's version and how it runs VMs.", [
      "version",
      "accelerator",
      "hypervisor",
    ]),
    leftovers: counter(
      "fleetingd_leftovers_removed_total",
      "What carried our mark and belonged to no instance, and was removed: process, tap, folder.",
      ["what"],
    ),
    unreadable: gauge("fleetingd_unreadable_records", "Records that could not be read at the start."),
    plugins: gauge("fleetingd_plugins_attached", "Runners' plugins that are connected."),
    calls: counter("fleetingd_api_calls_total", "Calls of plugins and the command line.", ["operation"]),
    callErrors: counter("fleetingd_api_errors_total", "Calls that failed.", ["operation"]),
    callSeconds: histogram(
      "fleetingd_api_duration_seconds",
      "How long calls took to answer.",
      ["operation"],
      CALL_SECONDS,
    ),
    memoryAvailable: gauge("fleetingd_host_memory_available_bytes", "Memory that the host has available."),
    memoryTotal: gauge("fleetingd_host_memory_bytes", "Memory that the host has."),
    memoryPressure: gauge(
      "fleetingd_host_memory_pressure_ratio",
      "Share of the last ten seconds in which something waited for memory; absent where the kernel does not tell.",
    ),
    conntrackEntries: gauge("fleetingd_host_conntrack_entries", "Connections that the host follows."),
    conntrackLimit: gauge("fleetingd_host_conntrack_limit", "How many of them it can follow."),
    processCpu: counter("process_cpu_seconds_total", "CPU time of the daemon."),
    processMemory: gauge("process_resident_memory_bytes", "Memory of the daemon."),
    processFiles: gauge("process_open_fds", "Files that the daemon has open."),
    processStart: gauge("process_start_time_seconds", "When the daemon was started, in seconds since 1970."),
  };
}
