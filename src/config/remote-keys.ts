/** The keys that every `[sources.<name>]` has, whatever its type. */
import * as z from "zod";
import type { RemoteConfig } from "../sources/remote/config.ts";
import { key } from "./key.ts";
import { absolutePath, duration } from "./values.ts";

const DAY_SECONDS = 86_400;
const MOST_INSTANCES = 100_000;

export const remoteKeys = {
  max_instances: key(z.int().min(1).max(MOST_INSTANCES).default(10), {
    meaning: "How many instances each pool that uses this source may have there at a time.",
    unit: "instances",
    example: 40,
  }),
  max_concurrent_creates: key(z.int().min(1).max(1_000).default(8), {
    meaning: "How many instances are made there at a time.",
    unit: "instances",
    example: 3,
  }),
  max_concurrent_deletes: key(z.int().min(1).max(1_000).default(8), {
    meaning: "How many instances are deleted there at a time.",
    unit: "instances",
    example: 5,
  }),
  create_timeout: key(duration(1, DAY_SECONDS).prefault("10m"), {
    kind: "duration",
    meaning:
      "How long an instance may take from the first request to the first SSH login; after that it is deleted and another one made.",
    example: "3m",
  }),
  delete_timeout: key(duration(1, 600).prefault("2m"), {
    kind: "duration",
    meaning: "How long a deletion may take before it counts as failed and is tried again.",
    example: "1m",
  }),
  request_timeout: key(duration(1, 600).prefault("30s"), {
    kind: "duration",
    meaning: "How long the server may be silent before a request counts as failed.",
    example: "10s",
  }),
  poll_interval: key(duration(1, 3_600).prefault("10s"), {
    kind: "duration",
    meaning: "How often the server is asked what there is.",
    example: "30s",
  }),
  missed_polls: key(z.int().min(1).max(100).default(3), {
    meaning:
      "In how many answers in a row an instance must be missing before it counts as lost: the lists of some clouds are a little behind.",
    unit: "polls",
    example: 5,
  }),
  cost_per_hour: key(z.number().min(0).max(1_000_000).default(0), {
    kind: "number",
    meaning:
      "What an instance costs, in whatever currency. Of idle instances the dearest are ended first and given out last.",
    example: 0.25,
  }),
  username: key(z.string().min(1).max(64).optional(), {
    meaning: "Whom the runner logs in as.",
    example: "debian",
    defaultText: "the one that the image names, otherwise `root`",
  }),
  ssh_key_path: key(absolutePath.optional(), {
    meaning: "A file with a private key that every instance of the image accepts.",
    example: "/etc/fleetingd/id_ed25519",
    defaultText: "a key of its own for each instance, which cloud-init puts there",
  }),
};

/** What each key is called in `RemoteConfig`. */
export const REMOTE_FIELDS = {
  max_instances: "maxInstances",
  max_concurrent_creates: "maxConcurrentCreates",
  max_concurrent_deletes: "maxConcurrentDeletes",
  create_timeout: "createTimeoutMs",
  delete_timeout: "deleteTimeoutMs",
  request_timeout: "requestTimeoutMs",
  poll_interval: "pollIntervalMs",
  missed_polls: "missedPolls",
  cost_per_hour: "costPerHour",
  username: "username",
  ssh_key_path: "sshKeyPath",
} as const satisfies Record<keyof typeof remoteKeys, keyof RemoteConfig>;
