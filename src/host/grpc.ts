/** Unary gRPC calls as promises: each has a deadline. */
import { type CallOptions, Metadata, type ServiceError } from "@grpc/grpc-js";

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
