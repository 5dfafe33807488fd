/** `fleetingd ssh`: a shell in a VM, or a command. */
import { FleetingdError } from "../errors.ts";
import { runSession } from "../host/ssh-session.ts";
import type { CliCommand, GlobalOptions } from "./context.ts";
import { readInstance } from "./instance-record.ts";

export interface SshOptions extends GlobalOptions {
  instance: string;
  /** What to run instead of a shell. */
  command: readonly string[];
}

/** @returns the exit code of the shell or the command */
export const ssh: CliCommand<SshOptions> = async (options) => {
  const { record } = await readInstance(options, options.instance);
  if (record.connectInfo === undefined) {
    throw new FleetingdError(
      "UNAVAILABLE",
      `nobody can log in to ${record.id}: it is ${record.state}${record.lastError === undefined ? "" : ` (${record.lastError})`}.`,
      { hint: `\`fleetingd console ${record.id}\` shows how far it has come.` },
    );
  }
  if (record.resting) {
    throw new FleetingdError(
      "UNAVAILABLE",
      `nobody can log in to ${record.id}: it is paused until it is claimed.`,
    );
  }
  // As SSH does it: the words are the remote shell's to read.
  const command = options.command.length === 0 ? undefined : options.command.join(" ");
  return await runSession({ ...record.connectInfo, hostKey: undefined }, command);
};
