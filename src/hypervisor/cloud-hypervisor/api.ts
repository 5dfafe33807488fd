/**
 * Cloud Hypervisor's REST API. Calls of one VM run one after the other, and an action takes no body at all: even `{}` is refused.
 */
import * as z from "zod";
import { FleetingdError } from "../../errors.ts";
import { createUnixHttpClient } from "../../host/http-unix.ts";
import { reasonsOf } from "./api-error.ts";
import type { VmConfig } from "./vm-config.ts";

export type Action = "vm.boot" | "vm.pause" | "vm.resume" | "vm.power-button" | "vmm.shutdown";

export interface Requests {
  "vm.create": VmConfig;
  "vm.resize": { desired_balloon: number };
  "vm.snapshot": { destination_url: string };
  "vm.restore": { source_url: string; resume: boolean };
  "vm.add-net": NonNullable<VmConfig["net"]>[number];
  "vm.remove-device": { id: string };
}

export interface CloudHypervisorApi {
  ping(timeoutMs: number): Promise<{ version: string }>;
  info(timeoutMs: number): Promise<VmInfo>;
  act(action: Action, timeoutMs: number): Promise<void>;
  request<C extends keyof Requests>(call: C, body: Requests[C], timeoutMs: number): Promise<void>;
  close(): void;
}

export type VmInfo = z.output<typeof infoSchema>;

const ROOT = "/api/v1/";

const pingSchema = z.object({ version: z.string() });
const infoSchema = z.object({
  state: z.enum(["Created", "Running", "Shutdown", "Paused", "BreakPoint"]),
  memory_actual_size: z.number(),
  config: z.object({
    memory: z.object({
      size: z.number(),
      zones: z.array(z.object({ size: z.number() })).nullish(),
    }),
    vsock: z.object({ id: z.string().nullish() }).nullish(),
  }),
});

/**
 * Every call throws FleetingdError HYPERVISOR_FAILED if it is refused or the answer makes no sense, TIMEOUT, UNAVAILABLE, or the system
 * error of a socket where nobody listens.
 */
export function createApi(socketPath: string, onLost: () => void): CloudHypervisorApi {
  const client = createUnixHttpClient(socketPath, onLost);
  const call = async (method: "GET" | "PUT", name: string, timeoutMs: number, body?: object) => {
    const answer = await client.request(method, `${ROOT}${name}`, timeoutMs, body);
    if (answer.status < 300) return answer.body;
    const code = answer.status === 503 ? "UNAVAILABLE" : "HYPERVISOR_FAILED";
    throw new FleetingdError(code, `Cloud Hypervisor refused ${name}: ${reasonsOf(answer)}`);
  };
  const read = async <T>(name: string, schema: z.ZodType<T>, timeoutMs: number): Promise<T> => {
    const body = await call("GET", name, timeoutMs);
    const parsed = schema.safeParse(parseJson(body));
    if (parsed.success) return parsed.data;
    const shown = body.length > 200 ? `${body.slice(0, 200)}…` : body;
    throw new FleetingdError("HYPERVISOR_FAILED", `Cloud Hypervisor answered ${name} with: ${shown}`);
  };
  return {
    ping: (timeoutMs) => read("vmm.ping", pingSchema, timeoutMs),
    info: (timeoutMs) => read("vm.info", infoSchema, timeoutMs),
    act: async (action, timeoutMs) => void (await call("PUT", action, timeoutMs)),
    request: async (name, body, timeoutMs) => void (await call("PUT", name, timeoutMs, body)),
    close: () => client.close(),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // No schema takes this, so it is told together with the text.
    return undefined;
  }
}
