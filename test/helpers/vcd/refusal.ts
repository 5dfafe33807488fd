/** What the server refuses, and with which words: of the codes it is known what they are, of the texts not all. */
export class Refusal extends Error {
  readonly status: number;
  readonly minor: string;

  constructor(status: number, minor: string, message: string) {
    super(message);
    this.status = status;
    this.minor = minor;
  }
}

export const bad = (message: string): Refusal => new Refusal(400, "BAD_REQUEST", message);

export const busy = (name: string, operation: string): Refusal =>
  new Refusal(400, "BUSY_ENTITY", `The entity ${name} is busy completing an operation ${operation}.`);

/** Of what is not there the server says the same as of what is not one's own. */
export const forbidden = (): Refusal =>
  new Refusal(
    403,
    "ACCESS_TO_RESOURCE_IS_FORBIDDEN",
    "Either you need some or all of the following rights [Base] to perform operations [VAPP_VIEW] or the target entity is invalid.",
  );

export const unauthorized = (): Refusal =>
  new Refusal(401, "UNAUTHORIZED", "The request requires user authentication.");

/** @param state what it would have to be */
export const notIn = (state: string, { kind, name }: { kind: string; name: string }): Refusal =>
  bad(`The requested operation could not be executed since ${kind} "${name}" is not ${state}.`);
