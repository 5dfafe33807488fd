/** Keys of the configuration carry their documentation with them: docs/configuration.md is made from it. */
import * as z from "zod";

export interface KeyDoc {
  /** What it does, in full sentences. */
  meaning: string;
  /** What kind of value it is, where the schema cannot tell. */
  kind?: string;
  /** The unit of a number, `MiB`. */
  unit?: string;
  /** A value that somebody might set, as it stands in JSON. */
  example: unknown;
  /** Says the default where it is not a plain value. */
  defaultText?: string;
}

/** The documentation of every key's schema. */
export const keyDocs = z.registry<KeyDoc>();

/** The schema of a key with its documentation: a copy, for several keys may have the same kind of value. */
export function key<Schema extends z.ZodType>(schema: Schema, doc: KeyDoc): Schema {
  const own = schema.clone();
  keyDocs.add(own, doc);
  return own;
}
