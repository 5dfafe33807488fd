/** The server's answers: what there is, as elements. */
import type { XmlNode } from "../../../src/sources/vcd/xml.ts";
import { HIDDEN } from "./reconfigured.ts";
import type { Task, Template, VApp, Vm, World } from "./world.ts";

const MIME = "application/vnd.vmware.vcloud.";
const VM_STATUS = { off: 8, on: 4, unresolved: 0, failed: -1 } as const;
const STATUS_NAMES: Readonly<Record<number, string>> = {
  [-1]: "FAILED_CREATION",
  0: "UNRESOLVED",
  1: "RESOLVED",
  4: "POWERED_ON",
  8: "POWERED_OFF",
  10: "MIXED",
};

export class Renderer {
  readonly #world: World;
  readonly #base: () => string;

  constructor(world: World, base: () => string) {
    this.#world = world;
    this.#base = base;
  }

  href(path: string): string {
    return `${this.#base()}/api/${path}`;
  }

  reference(path: string, name: string, type: string): XmlNode {
    return { "@href": this.href(path), "@name": name, "@type": `${MIME}${type}+xml` };
  }

  orgList(): XmlNode {
    const { org } = this.#world;
    return { Org: this.reference(`org/${org.id}`, org.name, "org") };
  }

  org(): XmlNode {
    const { org } = this.#world;
    return {
      ...this.#entity(`org/${org.id}`, `org:${org.id}`, org.name, "org"),
      FullName: org.name,
      IsEnabled: true,
    };
  }

  vdc(): XmlNode {
    const { vdc, vapps, network, storageProfiles } = this.#world;
    return {
      ...this.#entity(`vdc/${vdc.id}`, `vdc:${vdc.id}`, vdc.name, "vdc"),
      "@status": 1,
      AllocationModel: "Flex",
      ResourceEntities: {
        ResourceEntity: vapps.map(({ id, name }) => this.reference(`vApp/vapp-${id}`, name, "vApp")),
      },
      AvailableNetworks: { Network: this.reference(`network/${network.id}`, network.name, "network") },
      VdcStorageProfiles: {
        VdcStorageProfile: storageProfiles.map(({ id, name }) =>
          this.reference(`vdcStorageProfile/${id}`, name, "vdcStorageProfile"),
        ),
      },
    };
  }

  network(): XmlNode {
    const { network } = this.#world;
    return this.#entity(`network/${network.id}`, `network:${network.id}`, network.name, "orgVdcNetwork");
  }

  catalog(): XmlNode {
    const { catalog, templates } = this.#world;
    return {
      ...this.#entity(`catalog/${catalog.id}`, `catalog:${catalog.id}`, catalog.name, "catalog"),
      CatalogItems: {
        CatalogItem: templates.map(({ id, name }) =>
          this.reference(`catalogItem/${id}`, name, "catalogItem"),
        ),
      },
      IsPublished: false,
    };
  }

  catalogItem({ id, name }: Template): XmlNode {
    return {
      ...this.#entity(`catalogItem/${id}`, `catalogitem:${id}`, name, "catalogItem"),
      Entity: this.reference(`vAppTemplate/vappTemplate-${id}`, name, "vAppTemplate"),
    };
  }

  template({ id, name, status, vms }: Template): XmlNode {
    return {
      ...this.#entity(`vAppTemplate/vappTemplate-${id}`, `vapptemplate:${id}`, name, "vAppTemplate"),
      "@status": status,
      Children: {
        Vm: Array.from({ length: vms }, (_, index) => ({
          ...this.reference(`vAppTemplate/vm-${id}-${index}`, `${name}-${index}`, "vm"),
          "@status": status,
        })),
      },
    };
  }

  vapp(vapp: VApp): XmlNode {
    return {
      ...this.#entity(`vApp/vapp-${vapp.id}`, `vapp:${vapp.id}`, vapp.name, "vApp"),
      "@status": statusOf(vapp),
      "@deployed": vapp.vms.some(({ state }) => state === "on"),
      Description: vapp.description,
      Tasks: this.#tasks(vapp),
      NetworkConfigSection: this.networks(vapp),
      Children: vapp.vms.length === 0 ? undefined : { Vm: vapp.vms.map((vm) => this.vm(vm)) },
    };
  }

  networks(vapp: VApp): XmlNode {
    const { network } = this.#world;
    return {
      "@href": this.href(`vApp/vapp-${vapp.id}/networkConfigSection/`),
      "ovf:Info": "The configuration parameters for logical networks",
      NetworkConfig: vapp.networks.map((name) => ({
        "@networkName": name,
        Configuration: {
          ParentNetwork: this.reference(`network/${network.id}`, network.name, "network"),
          FenceMode: "bridged",
        },
        IsDeployed: false,
      })),
    };
  }

  vm(vm: Vm): XmlNode {
    const path = `vApp/vm-${vm.id}`;
    return {
      ...this.#entity(path, `vm:${vm.id}`, vm.name, "vm"),
      "@status": VM_STATUS[vm.state],
      "@deployed": vm.state === "on",
      "@needsCustomization": vm.customized === "pending",
      Tasks: this.#tasks(vm),
      NetworkConnectionSection: {
        "ovf:Info": "Specifies the available VM network connections",
        PrimaryNetworkConnectionIndex: 0,
        NetworkConnection: vm.connection && {
          "@network": vm.connection.network,
          NetworkConnectionIndex: 0,
          IpAddress: vm.connection.address,
          IsConnected: true,
          MACAddress: "00:50:56:01:02:03",
          IpAddressAllocationMode: vm.connection.mode,
          NetworkAdapterType: "VMXNET3",
        },
      },
      GuestCustomizationSection: this.customization(vm),
      VmSpecSection: {
        "@Modified": false,
        "ovf:Info": "Virtual Machine specification",
        OsType: vm.osType,
        NumCpus: vm.cpus,
        NumCoresPerSocket: vm.cores,
        CpuResourceMhz: { Configured: 0 },
        MemoryResourceMb: { Configured: vm.memoryMb },
        MediaSection: "",
        DiskSection: {
          DiskSettings: vm.disks.map(({ id, sizeMb }, unit) => ({
            DiskId: id,
            SizeMb: sizeMb,
            UnitNumber: unit,
            BusNumber: 0,
            AdapterType: 5,
            ThinProvisioned: true,
            overrideVmDefault: false,
            VirtualQuantity: sizeMb * 1_048_576,
            VirtualQuantityUnit: "byte",
          })),
        },
        HardwareVersion: { "@href": this.href("hwv/vmx-19"), "#text": "vmx-19" },
        VmToolsVersion: "12352",
      },
      StorageProfile: { "@name": vm.storageProfile },
    };
  }

  customization(vm: Vm): XmlNode {
    const { Info, ...section } = vm.customization;
    // What somebody has set is not shown to those who ask.
    return {
      "@href": this.href(`vApp/vm-${vm.id}/guestCustomizationSection/`),
      "ovf:Info": Info,
      ...section,
      AdminPassword: section["AdminPassword"] === undefined ? undefined : HIDDEN,
    };
  }

  task({ id, operation, status, error, owner }: Task): XmlNode {
    const path = owner.kind === "vm" ? `vApp/vm-${owner.id}` : `vApp/vapp-${owner.id}`;
    return {
      ...this.#entity(`task/${id}`, `task:${id}`, "task", "task"),
      "@status": status,
      "@operation": `${operation} ${owner.name}(${owner.id})`,
      "@operationName": operation,
      "@startTime": new Date().toISOString(),
      Owner: this.reference(path, owner.name, owner.kind),
      Error: error && {
        "@message": error.message,
        "@majorErrorCode": 500,
        "@minorErrorCode": error.minor,
      },
      User: { "@href": this.href("admin/user/1"), "@name": "ci" },
    };
  }

  vappRecord(vapp: VApp): XmlNode {
    return {
      "@href": this.href(`vApp/vapp-${vapp.id}`),
      "@name": vapp.name,
      "@status": STATUS_NAMES[statusOf(vapp)],
      "@vdc": this.href(`vdc/${this.#world.vdc.id}`),
      "@vdcName": this.#world.vdc.name,
      "@numberOfVMs": vapp.vms.length,
      "@isDeployed": vapp.vms.some(({ state }) => state === "on"),
      "@isBusy": this.#runningOf(vapp).length > 0,
      "@ownerName": "ci",
      "@creationDate": new Date().toISOString(),
    };
  }

  #entity(path: string, urn: string, name: string, type: string): XmlNode {
    return { ...this.reference(path, name, type), "@id": `urn:vcloud:${urn}` };
  }

  #runningOf(owner: VApp | Vm): Task[] {
    return [...this.#world.tasks.values()].filter(
      (task) => task.owner === owner && task.status === "running",
    );
  }

  #tasks(owner: VApp | Vm): XmlNode | undefined {
    const tasks = this.#runningOf(owner);
    return tasks.length === 0 ? undefined : { Task: tasks.map((task) => this.task(task)) };
  }
}

function statusOf({ state, vms }: VApp): number {
  if (state === "failed") return -1;
  if (state === "unresolved") return 0;
  const statuses = new Set(vms.map((vm) => VM_STATUS[vm.state]));
  const [only] = statuses;
  if (only === undefined) return 1;
  return statuses.size === 1 ? only : 10;
}
