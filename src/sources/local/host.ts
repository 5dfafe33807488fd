/** The host's parts that all its local pools share. */
import type { HypervisorDriver } from "../../hypervisor/driver.ts";
import type { Users } from "../../hypervisor/users.ts";
import type { Fabric } from "../../network/fabric.ts";
import type { Leases } from "../../network/leases.ts";
import type { VmSubnet } from "../../network/slots.ts";
import type { Admission } from "./admission.ts";

export interface LocalHost {
  /** Records, sockets and logs; clones and images are in a pool's disk directory. */
  stateDirectory: string;
  hypervisor: HypervisorDriver;
  /** Guests run without KVM. */
  emulated: boolean;
  fabric: Fabric;
  leasesOf(subnet: VmSubnet): Leases;
  admission: Admission;
  /** Whom VMs' processes run as. */
  users: Users;
}
