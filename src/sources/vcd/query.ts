/** The query service: all records of a type, page by page. */
import type { Session } from "./session.ts";
import { attribute, children, type XmlNode } from "./xml.ts";

interface Query {
  type: "orgVdc" | "catalog" | "vApp";
  /** Fields and what they must be; `*` stands for anything. */
  filter: Readonly<Record<string, string>>;
}

/** What an element of a type's records is called. */
const RECORDS = { orgVdc: "OrgVdcRecord", catalog: "CatalogRecord", vApp: "VAppRecord" } as const;
/** The server gives no more at a time. */
const PAGE_SIZE = 128;

/** All of them, or an error: what is made or deleted meanwhile may be in or not. */
export async function query(
  session: Session,
  { type, filter }: Query,
  signal: AbortSignal,
): Promise<XmlNode[]> {
  const conditions = Object.entries(filter).map(([field, value]) => `${field}==${encode(value)}`);
  const filters = conditions.length === 0 ? "" : `&filterEncoded=true&filter=${conditions.join(";")}`;
  const records = new Map<string, XmlNode>();
  for (let page = 1; ; page++) {
    const path = `/api/query?type=${type}&format=records&sortAsc=name&pageSize=${PAGE_SIZE}&page=${page}${filters}`;
    const answer = await session.request({ method: "GET", path, signal });
    // The admin's view of a type has a name of its own.
    const elements = [RECORDS[type], `Admin${RECORDS[type]}`].flatMap((name) => children(answer, name));
    for (const record of elements) records.set(attribute(record, "href") ?? "", record);
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
