/** The XML of Cloud Director's interface as plain data: no request is put together from text. */
import { XMLBuilder, XMLParser, XMLValidator } from "fast-xml-parser";

/** An element: attributes are named `@…`, text beside them is `#text`, elements of one name are a list or, if there is one, itself. */
export interface XmlNode {
  readonly [name: string]: unknown;
}

const SHAPE = { ignoreAttributes: false, attributeNamePrefix: "@" } as const;
/** Other versions of the server have other prefixes, and none of them says anything here. */
const parser = new XMLParser({
  ...SHAPE,
  removeNSPrefix: true,
  parseTagValue: false,
  parseAttributeValue: false,
  // Go writes line breaks as numbers.
  htmlEntities: true,
});
const builder = new XMLBuilder({ ...SHAPE, suppressBooleanAttributes: false, suppressEmptyNode: true });

const NAMESPACES = {
  "@xmlns": "http://www.vmware.com/vcloud/v1.5",
  "@xmlns:ovf": "http://schemas.dmtf.org/ovf/envelope/1",
};

/** The root element and its name, or undefined if the text is no XML. */
export function parseXml(text: string): { name: string; node: XmlNode } | undefined {
  if (XMLValidator.validate(text) !== true) return undefined;
  const [root] = Object.entries(parser.parse(text) as XmlNode).filter(([name]) => !name.startsWith("?"));
  if (root === undefined) return undefined;
  const [name, value] = root;
  return { name, node: asNode(value) };
}

/** @param node Values that are undefined are left out. */
export function buildXml(name: string, node: XmlNode): string {
  const xml = { "?xml": { "@version": "1.0", "@encoding": "UTF-8" }, [name]: { ...NAMESPACES, ...node } };
  return builder.build(xml);
}

/** The elements of that name. */
export function children(node: XmlNode | undefined, name: string): readonly XmlNode[] {
  const value = node?.[name];
  if (value === undefined) return [];
  return (Array.isArray(value) ? value : [value]).map(asNode);
}

/** The first element of that path. */
export function child(node: XmlNode | undefined, ...path: readonly string[]): XmlNode | undefined {
  return path.reduce<XmlNode | undefined>((parent, name) => children(parent, name)[0], node);
}

/** The text of the first element of that path; undefined without one, and if it is empty. */
export function textOf(node: XmlNode | undefined, ...path: readonly string[]): string | undefined {
  const text = child(node, ...path)?.["#text"];
  return typeof text === "string" && text !== "" ? text : undefined;
}

export function attribute(node: XmlNode | undefined, name: string): string | undefined {
  const value = node?.[`@${name}`];
  return typeof value === "string" ? value : undefined;
}

function asNode(value: unknown): XmlNode {
  if (typeof value === "object" && value !== null) return value as XmlNode;
  return { "#text": typeof value === "string" ? value : "" };
}
