/** The query service: all records of a type, page by page. */
import type { Session } from "./session.ts";
import { attribute, children, type XmlNode } from "./xml.ts";

interface Query {
  type: "orgVdc" | "catalog" | "vApp";
  /** Fields and what they must be; `*` stands for anything. */
  filter: Readonly<Record<string, string>>;
}

/** What an element of a type's records is called; the provider, who sees those of all organizations, has types of its own. */
const RECORDS = {
  orgVdc: { type: "orgVdc", element: "OrgVdcRecord" },
  catalog: { type: "catalog", element: "CatalogRecord" },
  vApp: { type: "vApp", element: "VAppRecord" },
} as const;
const PROVIDERS_RECORDS = {
  orgVdc: { type: "adminOrgVdc", element: "AdminVdcRecord" },
  catalog: { type: "adminCatalog", element: "AdminCatalogRecord" },
  vApp: { type: "adminVApp", element: "AdminVAppRecord" },
} as const;
/** The server gives no more at a time. */
const PAGE_SIZE = 128;

/** All of them, or an error: what is made or deleted meanwhile may be in or not. */
export async function query(
  session: Session,
  { type: what, filter }: Query,
  signal: AbortSignal,
): Promise<XmlNode[]> {
  const { type, element } = (session.isProvider ? PROVIDERS_RECORDS : RECORDS)[what];
  const conditions = Object.entries(filter).map(([field, value]) => `${field}==${encode(value)}`);
  const filters = conditions.length === 0 ? "" : `&filterEncoded=true&filter=${conditions.join(";")}`;
  const records = new Map<string, XmlNode>();
  for (let page = 1; ; page++) {
    const path = `/api/query?type=${type}&format=records&sortAsc=name&pageSize=${PAGE_SIZE}&page=${page}${filters}`;
    const answer = await session.request({ method: "GET", path, signal });
    const elements = children(answer, element);
    for (const record of elements) {
      // The provider is sent to pages for administrators, where a thing is shown in another way.
      const href = (attribute(record, "href") ?? "").replace("/api/admin/", "/api/");
      records.set(href, { ...record, "@href": href });
    }
    if (page * PAGE_SIZE >= Number(attribute(answer, "total") ?? 0) || elements.length === 0)
      return [...records.values()];
  }
}

/** What `encodeURIComponent` leaves and a filter would understand, but for the `*`. */
function encode(value: string): string {
  return encodeURIComponent(value).replaceAll(
    /[!'()]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
