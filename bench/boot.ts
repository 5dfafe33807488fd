/** From nothing to a login: our way, and the way that it replaces. */
import { originalBoot, originalBurst } from "./boot-original.ts";
import { coldBoot, coldBurst } from "./boot-ours.ts";
import type { Measurement } from "./measurement.ts";

export const boot: readonly Measurement[] = [coldBoot, coldBurst, originalBoot, originalBurst];
