/** A time as an option has it. */
import { InvalidArgumentError } from "commander";

/** Longer than anybody waits, and no timer of Node's is longer. */
const MOST = 2_147_483;

/** @throws InvalidArgumentError, of which the command line makes a sentence */
export function seconds(text: string): number {
  const value = Number(text);
  if (value > 0 && value <= MOST) return value;
  throw new InvalidArgumentError("It has to be a number of seconds.");
}
