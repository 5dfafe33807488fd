/** The query service: filters as they stand in the address, records page by page. */
import type { XmlNode } from "../../../src/sources/vcd/xml.ts";
import { bad } from "./refusal.ts";
import type { Answer, Parts } from "./routes.ts";
import type { VApp } from "./world.ts";

const DEFAULT_PAGE_SIZE = 25;
const LARGEST_PAGE_SIZE = 128;

interface Found {
  record: XmlNode;
  vapp?: VApp;
}

/** @param isProvider whether somebody of the provider asks, who has record types of their own */
export function answerQuery(parts: Parts, url: string, isProvider: boolean): Answer {
  const parameters = new Map(
    (url.split("?", 2)[1] ?? "").split("&").map((pair): [string, string] => {
      const [name = "", ...value] = pair.split("=");
      return [name, value.join("=")];
    }),
  );
  const type = parameters.get("type") ?? "";
  const [element, all] = isProvider ? providersRecordsOf(parts, type) : recordsOf(parts, type);
  const filter = parameters.get("filter") ?? "";
  const isEncoded = parameters.get("filterEncoded") === "true";
  const found = all.filter((it) => matches(it, isEncoded ? filter : decoded(filter)));
  const size = Math.min(LARGEST_PAGE_SIZE, Number(parameters.get("pageSize") ?? DEFAULT_PAGE_SIZE));
  const page = Number(parameters.get("page") ?? 1);
  const shown = found.slice((page - 1) * size, page * size);
  // So does the real one for a page behind the last.
  if (shown.length === 0 && page > 1) throw bad("The page does not exist.");
  const node = { "@total": found.length, "@pageSize": size, "@page": page, "@name": type };
  return { name: "QueryResultRecords", node: { ...node, [element]: shown.map(({ record }) => record) } };
}

function recordsOf({ world, renderer }: Parts, type: string): [string, Found[]] {
  const { org, vdc, catalog, vapps } = world;
  const common = { "@orgName": org.name, "@org": renderer.href(`org/${org.id}`) };
  switch (type) {
    case "orgVdc":
      return [
        "OrgVdcRecord",
        [{ record: { "@href": renderer.href(`vdc/${vdc.id}`), "@name": vdc.name, ...common } }],
      ];
    case "catalog":
      return [
        "CatalogRecord",
        [{ record: { "@href": renderer.href(`catalog/${catalog.id}`), "@name": catalog.name, ...common } }],
      ];
    case "vApp": {
      const sorted = vapps.toSorted((a, b) => (a.name < b.name ? -1 : 1));
      return ["VAppRecord", sorted.map((vapp) => ({ vapp, record: renderer.vappRecord(vapp) }))];
    }
    default:
      throw bad(`Bad request - there are no records of type ${type}.`);
  }
}

/** Of the provider's own organization, where nothing is; of all others by another name, with addresses for administrators. */
function providersRecordsOf(parts: Parts, type: string): [string, Found[]] {
  const [, tenants] = /^admin(.+)$/.exec(type) ?? [];
  if (tenants === undefined) return [recordsOf(parts, type)[0], []];
  const [element, found] = recordsOf(parts, tenants.charAt(0).toLowerCase() + tenants.slice(1));
  const records = found.map(({ record, vapp }): Found => {
    const href = String(record["@href"]).replace(/\/api\/(?=vdc|catalog)/, "/api/admin/");
    return { record: { ...record, "@href": href }, ...(vapp && { vapp }) };
  });
  return [element === "OrgVdcRecord" ? "AdminVdcRecord" : `Admin${element}`, records];
}

/** `name==a*;orgName==b`: all must be so. */
function matches({ record, vapp }: Found, filter: string): boolean {
  return filter
    .replace(/^\((.*)\)$/, "$1")
    .split(";")
    .filter((condition) => condition !== "")
    .every((condition) => {
      const [field = "", value = ""] = condition.split("==");
      const pattern = new RegExp(`^${value.split("*").map(decoded).map(literal).join(".*")}$`);
      const metadata = /^metadata(?:@GENERAL)?:(.+)$/.exec(decoded(field));
      if (metadata !== null) {
        const own = vapp?.metadata.get(metadata[1] ?? "");
        return own !== undefined && pattern.test(`STRING:${own}`);
      }
      if (!(`@${field}` in record)) throw bad(`Bad request - the field ${field} can't be filtered by.`);
      return pattern.test(String(record[`@${field}`]));
    });
}

function decoded(text: string): string {
  return decodeURIComponent(text.replaceAll("+", " "));
}

function literal(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
