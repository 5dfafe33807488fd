/** What Cloud Hypervisor's own description of its API says of a request. */
import { readFile } from "node:fs/promises";
import { Ajv, type ValidateFunction } from "ajv";
import { parse } from "yaml";

export interface NotedRequest {
  method: string;
  name: string;
  body: string;
}

interface Description {
  paths: Record<
    string,
    Record<string, { requestBody?: { content: { "application/json": { schema: { $ref: string } } } } }>
  >;
  components: {
    schemas: Record<string, { type?: string; properties?: object; additionalProperties?: unknown }>;
  };
}

/** Answers what is wrong with a request, or undefined. */
export type Judge = (request: NotedRequest) => string | undefined;

/** Stricter than the description: a key that it does not name is an error, for Cloud Hypervisor ignores those in silence. */
export async function loadApiDescription(): Promise<Judge> {
  const text = await readFile(new URL("openapi.yaml", import.meta.url), "utf8");
  const description = parse(text) as Description;
  for (const schema of Object.values(description.components.schemas)) {
    if (schema.properties !== undefined) schema.additionalProperties ??= false;
  }
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
  ajv.addSchema(description, "api");
  const validators = new Map<string, ValidateFunction>();
  const validator = (reference: string): ValidateFunction => {
    const known = validators.get(reference) ?? ajv.compile({ $ref: `api${reference}` });
    validators.set(reference, known);
    return known;
  };
  return ({ method, name, body }) => {
    const operation = description.paths[`/${name}`]?.[method.toLowerCase()];
    if (operation === undefined) return `there is no ${method} ${name}`;
    const reference = operation.requestBody?.content["application/json"].schema.$ref;
    if (reference === undefined) return body === "" ? undefined : `${name} takes no body, and got ${body}`;
    if (body === "") return `${name} takes a body, and got none`;
    const validate = validator(reference);
    return validate(JSON.parse(body)) ? undefined : `${name}: ${ajv.errorsText(validate.errors)}\n${body}`;
  };
}
