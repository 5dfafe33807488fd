/** The order of elements that the interface's schema demands of what it is sent; anything else is refused. */
import { children, type XmlNode } from "../../../src/sources/vcd/xml.ts";
import { bad } from "./refusal.ts";

const INSTANTIATION = ["NetworkConfigSection", "NetworkConnectionSection", "GuestCustomizationSection"];

const ORDER: Readonly<Record<string, readonly string[]>> = {
  ComposeVAppParams: ["Description", "InstantiationParams", "SourcedItem", "AllEULAsAccepted"],
  RecomposeVAppParams: [
    "Description",
    "InstantiationParams",
    "SourcedItem",
    "AllEULAsAccepted",
    "DeleteItem",
  ],
  SourcedItem: [
    "Source",
    "VmGeneralParams",
    "VAppScopedLocalId",
    "InstantiationParams",
    "NetworkAssignment",
    "StorageProfile",
    "ComputePolicy",
  ],
  VmGeneralParams: ["Name", "Description", "NeedsCustomization"],
  InstantiationParams: INSTANTIATION,
  NetworkConfigSection: ["Info", "Link", "NetworkConfig"],
  NetworkConfig: ["Link", "Description", "Configuration", "IsDeployed"],
  NetworkConnectionSection: ["Info", "PrimaryNetworkConnectionIndex", "NetworkConnection", "Link"],
  NetworkConnection: [
    "NetworkConnectionIndex",
    "IpAddress",
    "ExternalIpAddress",
    "IsConnected",
    "MACAddress",
    "IpAddressAllocationMode",
    "NetworkAdapterType",
  ],
  Vm: [
    "Link",
    "Description",
    "Tasks",
    "NetworkConnectionSection",
    "VmSpecSection",
    "GuestCustomizationSection",
    "StorageProfile",
  ],
  VmSpecSection: [
    "Info",
    "OsType",
    "Firmware",
    "NumCpus",
    "NumCoresPerSocket",
    "CpuResourceMhz",
    "MemoryResourceMb",
    "MediaSection",
    "DiskSection",
    "HardwareVersion",
    "VmToolsVersion",
    "VirtualCpuType",
    "TimeSyncWithHost",
  ],
  DiskSettings: [
    "DiskId",
    "SizeMb",
    "UnitNumber",
    "BusNumber",
    "AdapterType",
    "ThinProvisioned",
    "Disk",
    "StorageProfile",
    "overrideVmDefault",
    "iops",
    "VirtualQuantity",
    "VirtualQuantityUnit",
    "IopsAllocation",
    "resizable",
    "encrypted",
    "shareable",
    "sharingType",
  ],
  GuestCustomizationSection: [
    "Info",
    "Enabled",
    "ChangeSid",
    "VirtualMachineId",
    "JoinDomainEnabled",
    "UseOrgSettings",
    "DomainName",
    "DomainUserName",
    "DomainUserPassword",
    "MachineObjectOU",
    "AdminPasswordEnabled",
    "AdminPasswordAuto",
    "AdminPassword",
    "AdminAutoLogonEnabled",
    "AdminAutoLogonCount",
    "ResetPasswordRequired",
    "CustomizationScript",
    "ComputerName",
    "Link",
  ],
  UndeployVAppParams: ["UndeployPowerAction"],
};
/** OVF's sections are not complete without it. */
const NEED_INFO = new Set(Object.keys(ORDER).filter((name) => name.endsWith("Section")));

/** @throws Refusal */
export function checkOrder(name: string, node: XmlNode): void {
  const order = ORDER[name];
  const elements = Object.keys(node).filter((key) => !key.startsWith("@") && key !== "#text");
  if (order !== undefined) {
    let last = 0;
    for (const element of elements) {
      const place = order.indexOf(element);
      if (place < last) {
        throw bad(
          `Bad request - cvc-complex-type.2.4.a: Invalid content was found starting with element '${element}' in '${name}'.`,
        );
      }
      last = place;
    }
    if (NEED_INFO.has(name) && !elements.includes("Info")) {
      throw bad(
        `Bad request - cvc-complex-type.2.4.b: The content of element '${name}' is not complete: 'Info' is expected.`,
      );
    }
  }
  for (const element of elements) for (const child of children(node, element)) checkOrder(element, child);
}
