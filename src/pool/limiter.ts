/** A bound on how many steps run at once, shared by all pools of a host. */
export interface Limiter {
  /** Takes a place if one is free. */
  tryTake(): boolean;
  give(): void;
  /** Called whenever a place becomes free. */
  onFree(listener: () => void): void;
}

export function createLimiter(places: number): Limiter {
  let taken = 0;
  const listeners: (() => void)[] = [];
  return {
    tryTake() {
      if (taken >= places) return false;
      taken++;
      return true;
    },
    give() {
      taken--;
      for (const listener of listeners) listener();
    },
    onFree(listener) {
      listeners.push(listener);
    },
  };
}
