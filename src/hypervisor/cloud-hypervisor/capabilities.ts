/** What an installed Cloud Hypervisor can do, by its version and by trying. */
import { FleetingdError } from "../../errors.ts";

export interface Capabilities {
  version: string;
  /** It knows whether guests may run VMs of their own. */
  nested: boolean;
  /** A disk's format is said, not guessed, and backing files are opened only where they are expected. */
  imageTypes: boolean;
  /** It confines itself to the files of its VM; of the kernel, too. */
  landlock: boolean;
  snapshots: boolean;
}

const OLDEST = 38;
const LANDLOCK = 41;
const NESTED = 50;
const IMAGE_TYPES = 51;
const SNAPSHOTS = 52;

/**
 * @param version as `vmm.ping` says it
 * @throws FleetingdError UNAVAILABLE if it is too old
 */
export function capabilitiesOf(version: string): Capabilities {
  const major = Number(/^v?(\d+)/.exec(version)?.[1] ?? 0);
  if (major < OLDEST) {
    throw new FleetingdError(
      "UNAVAILABLE",
      `Cloud Hypervisor ${version} is too old: VMs need version ${OLDEST} or newer`,
      {
        hint: `Install version ${IMAGE_TYPES} or newer, for older ones guess a disk's format; or set hypervisor = "qemu".`,
      },
    );
  }
  return {
    version,
    nested: major >= NESTED,
    imageTypes: major >= IMAGE_TYPES,
    landlock: major >= LANDLOCK,
    snapshots: major >= SNAPSHOTS,
  };
}
