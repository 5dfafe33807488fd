/**
 * Groups: who owns which claimed instances. Each plugin process has one group for as long as it is attached.
 *
 * The runner does not tell a plugin which `[[runners]]` entry it serves, so a group is named after its pool and the
 * `group` key. A second plugin with the same name gets the next free number and sees none of the first one's instances;
 * a plugin that starts again after a crash finds the lowest number free, and with it its instances.
 */
import { FleetingdError } from "../errors.ts";
import type { Pool } from "../pool/pool.ts";

export interface Group {
  name: string;
  pool: Pool;
}

export class Groups {
  readonly #attached = new Map<string, Group>();

  /**
   * Attaches a plugin to the pool.
   * @param wanted The `group` key of its configuration.
   * @param previous The group that it had before the daemon was restarted.
   */
  attach(pool: Pool, wanted: string | undefined, previous: string | undefined): Group {
    const base = `${pool.name}/${wanted ?? "default"}`;
    const name = this.#isFree(previous, base) ? previous : this.#firstFree(base);
    const group = { name, pool };
    this.#attached.set(name, group);
    return group;
  }

  detach(group: Group): void {
    if (this.#attached.get(group.name) === group) this.#attached.delete(group.name);
  }

  /** @throws FleetingdError UNAVAILABLE: after a restart of the daemon each plugin attaches anew. */
  get(name: string): Group {
    const group = this.#attached.get(name);
    if (group !== undefined) return group;
    throw new FleetingdError("UNAVAILABLE", `the group ${name} is not attached to this daemon`, {
      hint: "The plugin attaches again by itself after a restart of the daemon.",
    });
  }

  /** Whether a plugin holds it at the moment. */
  isAttached(name: string): boolean {
    return this.#attached.has(name);
  }

  /** How many plugins are attached. */
  get count(): number {
    return this.#attached.size;
  }

  #isFree(previous: string | undefined, base: string): previous is string {
    if (previous === undefined || this.#attached.has(previous)) return false;
    return previous === base || previous.startsWith(`${base}#`);
  }

  #firstFree(base: string): string {
    for (let number = 1; ; number++) {
      const name = number === 1 ? base : `${base}#${number}`;
      if (!this.#attached.has(name)) return name;
    }
  }
}
