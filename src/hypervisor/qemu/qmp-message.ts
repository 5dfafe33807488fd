/** QMP's messages: one JSON object a line. */
import * as z from "zod";
import { FleetingdError } from "../../errors.ts";

export type QmpMessage =
  | { kind: "greeting" }
  | { kind: "result"; id: number; value: unknown }
  | { kind: "error"; id: number | undefined; description: string }
  | { kind: "event"; event: QmpEvent };

export interface QmpEvent {
  /** `SHUTDOWN`, `RESET`, `GUEST_PANICKED`, … */
  name: string;
  data: Readonly<Record<string, unknown>>;
}

const SHOWN_CHARACTERS = 200;

const messageSchema = z.union([
  z.object({ QMP: z.object({ version: z.unknown() }) }).transform((): QmpMessage => ({ kind: "greeting" })),
  z
    .object({ error: z.object({ desc: z.string() }), id: z.number().optional() })
    .transform(({ error, id }): QmpMessage => ({ kind: "error", id, description: error.desc })),
  z
    .object({ event: z.string(), data: z.record(z.string(), z.unknown()).optional() })
    .transform(
      ({ event, data }): QmpMessage => ({ kind: "event", event: { name: event, data: data ?? {} } }),
    ),
  z
    .object({ id: z.number(), return: z.unknown() })
    .refine((message) => "return" in message)
    .transform((message): QmpMessage => ({ kind: "result", id: message.id, value: message.return })),
]);

/** @throws FleetingdError HYPERVISOR_FAILED if the line is no QMP message. */
export function parseQmpLine(line: string): QmpMessage {
  const parsed = messageSchema.safeParse(parseJson(line));
  if (parsed.success) return parsed.data;
  throw notQmp(line);
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    throw notQmp(line, error);
  }
}

function notQmp(line: string, cause?: unknown): FleetingdError {
  const shown =
    line.length > SHOWN_CHARACTERS ? `${line.slice(0, SHOWN_CHARACTERS)}… (${line.length} characters)` : line;
  return new FleetingdError("HYPERVISOR_FAILED", `QEMU sent something that is not QMP: ${shown}`, { cause });
}
