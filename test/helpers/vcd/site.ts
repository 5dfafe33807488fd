/** The stand-in with all that a source needs to use it: its certificate in a file, a configuration, and guests to log in to. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { VcdConfig } from "../../../src/sources/vcd/config.ts";
import { type Guests, startGuests } from "../guests.ts";
import { type Director, startDirector } from "./director.ts";
import { guestOf } from "./guest.ts";
import { type Steering, SWIFT } from "./operations.ts";
import { API_TOKEN, allVms, NAMES, type VApp } from "./world.ts";

export const PATIENCE_MS = 120_000;

export interface VcdSite {
  readonly director: Director;
  /** For files of the test's own. */
  readonly directory: string;
  /** Path of the PEM. */
  readonly caCertificate: string;
  /** Where the vendor's client finds it (test/sources/vcd-client). */
  readonly goEnvironment: Readonly<Record<string, string>>;
  config(more?: Partial<VcdConfig>): VcdConfig;
  /** All goes well but for what is said. */
  steer(more: Partial<Steering>): void;
  /** The vApp of an instance. */
  vappOf(id: string): VApp | undefined;
  /** As if somebody had deleted it. */
  discard(vapp: VApp | undefined): void;
  stop(): Promise<void>;
}

const POOL = Array.from({ length: 200 }, (_, index) => `10.94.0.${index + 10}`);
const SUBNET = "10.94.0.1/24";

/** @param withGuests machines can be logged in to; that needs a namespace of the test's own */
export async function startVcdSite({ withGuests }: { withGuests: boolean }): Promise<VcdSite> {
  const directory = await mkdtemp(join(tmpdir(), "vcd-"));
  const director = await startDirector(POOL);
  let guests: Guests | undefined;
  if (withGuests) {
    guests = await startGuests(SUBNET, async (address) => {
      const vm = allVms(director.world).find(({ connection }) => connection?.address === address);
      return vm === undefined ? undefined : guestOf(vm);
    });
  }
  const caCertificate = join(directory, "ca.pem");
  await writeFile(caCertificate, director.certificate);
  return {
    director,
    directory,
    caCertificate,
    goEnvironment: {
      VCD_URL: director.url,
      VCD_TOKEN: API_TOKEN,
      VCD_ORG: NAMES.org,
      VCD_VDC: NAMES.vdc,
      VCD_NETWORK: NAMES.network,
      VCD_CATALOG: NAMES.catalog,
      VCD_TEMPLATE: NAMES.linux,
      VCD_STORAGE_PROFILE: NAMES.storageProfile,
    },
    config: (more) => ({ ...VCD_CONFIG, url: director.url, caCertificate, ...more }),
    steer: (more) => void Object.assign(director.steering, SWIFT, more),
    vappOf: (id) => director.world.vapps.find((vapp) => instanceOf(vapp) === id),
    discard: (vapp) => {
      director.world.vapps = director.world.vapps.filter((it) => it !== vapp);
    },
    stop: async () => {
      await guests?.stop();
      await director.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** The instance that a vApp's description names. */
export function instanceOf({ description }: VApp): string | undefined {
  return /fleetingd-instance=(\S+)]$/.exec(description)?.[1];
}

/** Of the stand-in, but for its address and certificate. */
export const VCD_CONFIG: VcdConfig = {
  type: "vcd",
  url: "",
  org: NAMES.org,
  token: API_TOKEN,
  tokenFile: undefined,
  caCertificate: undefined,
  insecure: false,
  virtualDatacenter: NAMES.vdc,
  network: NAMES.network,
  ipAllocationMode: "POOL",
  catalog: NAMES.catalog,
  template: NAMES.linux,
  storageProfile: NAMES.storageProfile,
  cpuCount: 4,
  coresPerSocket: 2,
  memoryMiB: 8_192,
  diskGiB: 20,
  vappNamePrefix: "ci",
  description: "Made by a test",
  protocol: "ssh",
  port: undefined,
  adminPassword: undefined,
  adminPasswordFile: undefined,
  maxInstances: 100,
  maxConcurrentCreates: 8,
  maxConcurrentDeletes: 8,
  requestTimeoutMs: 10_000,
  createTimeoutMs: PATIENCE_MS,
  deleteTimeoutMs: PATIENCE_MS,
  pollIntervalMs: 1_000,
  missedPolls: 2,
  costPerHour: 0,
  username: undefined,
  sshKeyPath: undefined,
};
