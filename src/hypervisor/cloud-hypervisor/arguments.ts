/** How a VMM process is started, and known again: what its VM is comes over the API. */
import { dirname, join } from "node:path";

/** In the VM's directory, which is the process's working directory. */
export const API_SOCKET = "api.sock";

const EVENTS_SUFFIX = ".events";
const EVENT_MONITOR = "--event-monitor";

/** The VMM's arguments. Its file of events names the VM and its directory: there is no other place for them. */
export function vmmArguments(vm: { id: string; directory: string }): string[] {
  return [
    ...["--api-socket", `path=${API_SOCKET}`],
    ...[EVENT_MONITOR, `path="${eventsPath(vm)}"`],
    ...["--seccomp", "true"],
  ];
}

export function eventsPath({ id, directory }: { id: string; directory: string }): string {
  return join(directory, `${id}${EVENTS_SUFFIX}`);
}

/** The VM that a process with these arguments is, or undefined if it is none of ours. */
export function parseVmmProcess(
  argumentVector: readonly string[],
): { id: string; directory: string } | undefined {
  const option = argumentVector[argumentVector.indexOf(EVENT_MONITOR) + 1] ?? "";
  const path = /^path="(\/.+)"$/.exec(option)?.[1];
  if (!argumentVector.includes(`path=${API_SOCKET}`) || !path?.endsWith(EVENTS_SUFFIX)) return undefined;
  const directory = dirname(path);
  return { id: path.slice(directory.length + 1, -EVENTS_SUFFIX.length), directory };
}
