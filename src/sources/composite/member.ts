/** One source of several: what it has, what it can do now, and how much at a time. */
import { describeError } from "../../errors.ts";
import { Health } from "../remote/health.ts";
import type { Room, Source, SourceStatus } from "../source.ts";
import { type Limit, Places } from "./places.ts";

export interface Part {
  source: Source;
  type: string;
  limits: { creates: Limit; deletes: Limit };
  /** Undefined: as many as the source itself bears. */
  maxInstances: number | undefined;
  warmInstances: number | undefined;
  costPerHour: number;
}

export class Member {
  readonly source: Source;
  readonly costPerHour: number;
  readonly warmInstances: number | undefined;
  readonly creates: Places;
  readonly deletes: Places;
  readonly health = new Health();
  /** Its instances' ids, from the beginning of `create`, or `resume`, to the end of `delete`. */
  readonly instances = new Set<string>();
  readonly #type: string;
  readonly #maxInstances: number | undefined;
  /** As the source said it last, less what was begun since. */
  #said: Room | undefined;

  constructor({ source, type, limits, maxInstances, warmInstances, costPerHour }: Part) {
    this.source = source;
    this.costPerHour = costPerHour;
    this.warmInstances = warmInstances;
    this.creates = new Places(limits.creates);
    this.deletes = new Places(limits.deletes);
    this.#type = type;
    this.#maxInstances = maxInstances;
  }

  /** Asks the source for its room. */
  async look(): Promise<void> {
    try {
      this.#said = await this.source.room?.();
    } catch (error) {
      const reason = `what it has could not be read: ${describeError(error)}`;
      this.#said = { vms: 0, isScarce: true, reason };
    }
  }

  /** One instance more is begun there. */
  taken(): void {
    if (this.#said !== undefined) this.#said.vms -= 1;
  }

  /** How many instances more it may be asked for. */
  get room(): number {
    if (this.#trouble !== undefined) return 0;
    const left = (this.#maxInstances ?? Number.MAX_SAFE_INTEGER) - this.instances.size;
    return Math.max(0, Math.min(left, this.#said?.vms ?? left));
  }

  get isScarce(): boolean {
    return this.#said?.isScarce === true;
  }

  /** Why it has no room; undefined if it has some. */
  get problem(): string | undefined {
    const [trouble, said] = [this.#trouble, this.#said];
    if (trouble !== undefined) return trouble.problem;
    if (this.#maxInstances !== undefined && this.instances.size >= this.#maxInstances) {
      return `it is at its maximum of ${this.#maxInstances} instances`;
    }
    return said !== undefined && said.vms < 1 ? said.reason : undefined;
  }

  status(): SourceStatus {
    const own = this.source.status?.()[0];
    const [trouble, problem] = [this.#trouble, own?.problem ?? this.problem];
    const state = trouble?.state ?? (problem === undefined ? "ok" : "full");
    return {
      name: this.source.name,
      type: this.#type,
      state: own !== undefined && own.state !== "ok" ? own.state : state,
      problem,
      retryInMs: Math.max(own?.retryInMs ?? 0, trouble?.retryInMs ?? 0),
      instances: this.instances.size,
      maxInstances: this.#maxInstances ?? own?.maxInstances,
      costPerHour: this.costPerHour,
    };
  }

  /** What it failed of lately: undefined again when it may be asked. */
  get #trouble(): Health["trouble"] {
    const { trouble } = this.health;
    return trouble !== undefined && trouble.retryInMs > 0 ? trouble : undefined;
  }
}
