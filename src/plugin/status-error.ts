/** gRPC errors: grpc-js sends the `code` and `message` of what a handler throws. */
import { type handleUnaryCall, type ServiceError, status as Status } from "@grpc/grpc-js";
import { describeError } from "../errors.ts";

export class StatusError extends Error {
  override readonly name = "StatusError";
  readonly code: Status;
  constructor(code: Status, message: string) {
    super(message);
    this.code = code;
  }
}

/** Whatever was thrown as a gRPC error; the daemon's own errors keep their code and their sentence. */
export function toStatusError(error: unknown): StatusError {
  if (error instanceof StatusError) return error;
  if (isServiceError(error)) return new StatusError(error.code, error.details);
  return new StatusError(Status.INTERNAL, describeError(error));
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && typeof error.code === "number" && "details" in error;
}

/** A handler of the generated service from a function that returns the reply or throws. */
export function unary<Request, Reply>(
  work: (request: Request) => Promise<Reply>,
): handleUnaryCall<Request, Reply> {
  return (call, callback) => {
    work(call.request).then(
      (reply) => callback(null, reply),
      (error: unknown) => callback(toStatusError(error), null),
    );
  };
}
