/** What a machine is made of and where, by the names that people know: data center, network, storage profile, template. */
import { FleetingdError } from "../../errors.ts";
import type { VcdConfig } from "./config.ts";
import { query } from "./query.ts";
import type { Session } from "./session.ts";
import { attribute, child, children, type XmlNode } from "./xml.ts";

export interface Places {
  /** Addresses of the server's. */
  vdc: string;
  network: string;
  storageProfile: string | undefined;
  /** The one VM of the template. */
  templateVm: string;
}

/** A template that can be used. */
const RESOLVED = "8";

/** @throws FleetingdError INVALID_CONFIG that names the key and what there is */
export async function findPlaces(session: Session, config: VcdConfig, signal: AbortSignal): Promise<Places> {
  const get = (path: string): Promise<XmlNode> => session.request({ method: "GET", path, signal });
  const { org, virtualDatacenter } = config;
  // The provider has no data centers of its own, and sees those of all.
  const filter: Readonly<Record<string, string>> = session.isProvider ? {} : { orgName: org };
  const vdcs = await query(session, { type: "orgVdc", filter }, signal);
  const vdc = named(vdcs, virtualDatacenter, "data center", "virtual_datacenter");
  const center = await get(vdc);
  const networks = children(child(center, "AvailableNetworks"), "Network");
  const profiles = children(child(center, "VdcStorageProfiles"), "VdcStorageProfile");
  return {
    vdc,
    network: named(networks, config.network, `network of ${virtualDatacenter}`, "network"),
    storageProfile:
      config.storageProfile === undefined
        ? undefined
        : named(
            profiles,
            config.storageProfile,
            `storage profile of ${virtualDatacenter}`,
            "storage_profile",
          ),
    templateVm: await findTemplate(session, config, signal),
  };
}

async function findTemplate(
  session: Session,
  { org, catalog, template }: VcdConfig,
  signal: AbortSignal,
): Promise<string> {
  const get = (path: string): Promise<XmlNode> => session.request({ method: "GET", path, signal });
  // Others may share one of the same name.
  const isOwn = (record: XmlNode): number => (attribute(record, "orgName") === org ? 0 : 1);
  const catalogs = await query(session, { type: "catalog", filter: {} }, signal);
  catalogs.sort((a, b) => isOwn(a) - isOwn(b));
  const items = children(
    child(await get(named(catalogs, catalog, "catalog", "catalog")), "CatalogItems"),
    "CatalogItem",
  );
  const item = await get(named(items, template, `template of the catalog ${catalog}`, "template"));
  const found = await get(attribute(child(item, "Entity"), "href") ?? "");
  if (attribute(found, "status") !== RESOLVED) {
    throw new FleetingdError(
      "UNAVAILABLE",
      `the template ${template} can't be used now: its status is ${attribute(found, "status") ?? "unknown"}`,
      { hint: "It may still be copied; or it is a media file, or broken." },
    );
  }
  const [vm, ...more] = children(child(found, "Children"), "Vm").map((it) => attribute(it, "href"));
  if (vm !== undefined && more.length === 0) return vm;
  throw invalid(
    `the template ${template} has ${vm === undefined ? "no VM" : `${more.length + 1} VMs`}, and must have one`,
  );
}

function named(elements: readonly XmlNode[], name: string, what: string, key: string): string {
  const href = attribute(
    elements.find((element) => attribute(element, "name") === name),
    "href",
  );
  if (href !== undefined) return href;
  const names = elements.map((element) => JSON.stringify(attribute(element, "name")));
  throw invalid(
    `there is no ${what} with the name ${JSON.stringify(name)} (${key})`,
    names.length === 0 ? "The token's user sees none at all." : `There is ${names.join(", ")}.`,
  );
}

function invalid(message: string, hint?: string): FleetingdError {
  return new FleetingdError("INVALID_CONFIG", message, { hint });
}
