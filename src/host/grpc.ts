/** What grpc-js has with callbacks, as promises: unary calls, and servers on unix sockets. Each has a deadline. */
import {
  type CallOptions,
  Metadata,
  type Server,
  type ServerCredentials,
  type ServiceError,
} from "@grpc/grpc-js";
import { FleetingdError, messageOf } from "../errors.ts";

// GitLab Runner kills a plugin that has not ended 2 s after Shutdown.
const CLOSE_TIMEOUT_MS = 1_000;

type UnaryMethod<Request, Reply> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, reply: Reply) => void,
) => unknown;

/**
 * Calls `method` of a generated client, which must be bound to it.
 * @throws the call's ServiceError, with its gRPC status in `code`
 */
export function callUnary<Request, Reply>(
  method: UnaryMethod<Request, Reply>,
  request: Request,
  timeoutMs: number,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    method(request, new Metadata(), { deadline: Date.now() + timeoutMs }, (error, reply) =>
      error === null ? resolve(reply) : reject(error),
    );
  });
}

/** @throws FleetingdError UNAVAILABLE */
export function listenOnUnixSocket(
  server: Server,
  path: string,
  credentials: ServerCredentials,
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.bindAsync(`unix:${path}`, credentials, (error) => {
      if (error === null) return resolve();
      const message = `could not listen on ${path}: ${messageOf(error)}`;
      reject(new FleetingdError("UNAVAILABLE", message, { cause: error }));
    });
  });
}

/** Lets the replies that are under way out, within reason: who keeps a stream open would be waited for for ever. */
export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, CLOSE_TIMEOUT_MS);
    server.tryShutdown(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
