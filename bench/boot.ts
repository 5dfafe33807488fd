/** From nothing to a login: our way, and the way that it replaces. */
import { coldBoot } from "./boot-cold.ts";
import { originalBoot } from "./boot-original.ts";
import type { Measurement } from "./measurement.ts";

export const boot: readonly Measurement[] = [coldBoot, originalBoot];
