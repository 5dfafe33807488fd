/** What go-plugin hosts expect of every plugin besides its own service. */
import { type ServerDuplexStream, type ServerWritableStream, status as Status } from "@grpc/grpc-js";
import type {
  ConnInfo,
  GRPCBrokerServer,
  GRPCControllerServer,
  GRPCStdioServer,
  StdioData,
} from "../gen/goplugin.ts";
import {
  type HealthCheckRequest,
  HealthCheckResponse_ServingStatus,
  type HealthServer,
} from "../gen/health.ts";
import type { Lifetime } from "./lifetime.ts";
import { StatusError, unary } from "./status-error.ts";

export interface GoPluginServices {
  broker: GRPCBrokerServer;
  stdio: GRPCStdioServer;
  controller: GRPCControllerServer;
  health: HealthServer;
  /** Ends the streams that the host keeps open. */
  endStreams(): void;
}

type OpenStream = ServerDuplexStream<ConnInfo, ConnInfo> | ServerWritableStream<unknown, StdioData>;

export function createGoPluginServices(lifetime: Lifetime): GoPluginServices {
  const open = new Set<OpenStream>();
  const keepOpen = (call: OpenStream, closed: () => void): void => {
    open.add(call);
    const forget = (): void => {
      if (open.delete(call)) closed();
    };
    call.once("cancelled", forget);
    call.once("close", forget);
    // The host's end of the stream: its death, or its Close.
    call.once("end", forget);
    call.once("error", forget);
  };
  return {
    broker: {
      startStream: (call) => {
        lifetime.brokerOpened();
        keepOpen(call, () => {
          call.end();
          lifetime.brokerClosed();
        });
        // Nobody is to be connected to: there are no services but the one. It must be read for its end to be seen.
        call.resume();
      },
    },
    // Everything is logged on standard error; the stream stays open and empty.
    stdio: { streamStdio: (call) => keepOpen(call, () => call.end()) },
    controller: {
      shutdown: unary(async () => {
        lifetime.end("the host has asked for it");
        return {};
      }),
    },
    health: {
      check: unary(async ({ service }) => ({ status: servingStatus(service) })),
      watch: (call) => {
        call.write({ status: servingStatus((call.request as HealthCheckRequest).service) });
        keepOpen(call as unknown as OpenStream, () => call.end());
      },
    },
    endStreams: () => {
      for (const call of open) call.end();
    },
  };
}

function servingStatus(service: string): HealthCheckResponse_ServingStatus {
  if (service === "plugin" || service === "") return HealthCheckResponse_ServingStatus.SERVING;
  throw new StatusError(Status.NOT_FOUND, `this plugin has no service "${service}" to check`);
}
