/** What the server is asked for to make a machine: bodies in the order of elements that the interface's schema has. */
import type { VcdConfig } from "./config.ts";
import { customizationSection, type Guest } from "./customization.ts";
import type { Places } from "./places.ts";
import type { VcdRequest } from "./session.ts";
import { attribute, child, children, textOf, type XmlNode } from "./xml.ts";

type Body = NonNullable<VcdRequest["body"]>;

const MIB_PER_GIB = 1_024;

/** A vApp of one VM, which is a copy of the template's and stays off. */
export function composeRequest(
  { network, ipAllocationMode }: Pick<VcdConfig, "network" | "ipAllocationMode">,
  places: Places,
  vapp: { name: string; description: string; vmName: string },
): Body {
  const networkConfig = {
    "@networkName": network,
    Configuration: { ParentNetwork: { "@href": places.network }, FenceMode: "bridged" },
  };
  const connection = {
    "@network": network,
    NetworkConnectionIndex: 0,
    IsConnected: true,
    IpAddressAllocationMode: ipAllocationMode,
  };
  const node = {
    "@name": vapp.name,
    "@deploy": false,
    "@powerOn": false,
    Description: vapp.description,
    InstantiationParams: {
      NetworkConfigSection: { "ovf:Info": "The network of the machine", NetworkConfig: networkConfig },
    },
    SourcedItem: {
      Source: { "@href": places.templateVm },
      VmGeneralParams: { Name: vapp.vmName, NeedsCustomization: true },
      InstantiationParams: {
        NetworkConnectionSection: {
          "ovf:Info": "The connection of the machine",
          PrimaryNetworkConnectionIndex: 0,
          NetworkConnection: connection,
        },
      },
      ...(places.storageProfile === undefined ? {} : { StorageProfile: { "@href": places.storageProfile } }),
    },
    AllEULAsAccepted: true,
  };
  return { name: "ComposeVAppParams", type: "composeVAppParams+xml", node };
}

/** Size and first boot of a VM that is off. @param vm as the server says it */
export function reconfigureRequest(config: VcdConfig, vm: XmlNode, guest: Guest): Body {
  const node = {
    "@name": attribute(vm, "name"),
    VmSpecSection: specSection(config, child(vm, "VmSpecSection")),
    GuestCustomizationSection: customizationSection(child(vm, "GuestCustomizationSection"), guest),
  };
  return { name: "Vm", type: "vm+xml", node };
}

/** Undefined: the template's size is the wanted one. */
function specSection(
  { cpuCount, coresPerSocket, memoryMiB, diskGiB }: VcdConfig,
  now: XmlNode | undefined,
): XmlNode | undefined {
  const disks = children(child(now, "DiskSection"), "DiskSettings");
  const [first, ...others] = disks;
  const grows = diskGiB !== undefined && Number(textOf(first, "SizeMb") ?? 0) < diskGiB * MIB_PER_GIB;
  const wanted = {
    ...(cpuCount === undefined ? {} : { NumCpus: cpuCount }),
    ...(coresPerSocket === undefined ? {} : { NumCoresPerSocket: coresPerSocket }),
    ...(memoryMiB === undefined ? {} : { MemoryResourceMb: { Configured: memoryMiB } }),
    // A list of disks says all that there are.
    ...(grows && first !== undefined
      ? { DiskSection: { DiskSettings: [{ ...first, SizeMb: diskGiB * MIB_PER_GIB }, ...others] } }
      : {}),
  };
  if (Object.keys(wanted).length === 0) return undefined;
  return { "@Modified": true, "ovf:Info": "The size of the machine", ...wanted };
}

export const TPM: Body = {
  name: "TrustedPlatformModule",
  type: "TpmSection+xml",
  node: { TpmPresent: true },
};

export const UNDEPLOY: Body = {
  name: "UndeployVAppParams",
  type: "undeployVAppParams+xml",
  node: { UndeployPowerAction: "powerOff" },
};
