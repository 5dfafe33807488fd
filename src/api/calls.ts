/** How calls are answered: so many at a time, each one measured, errors in gRPC's words. */
import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  type ServerWritableStream,
  type ServiceError,
  status as Status,
} from "@grpc/grpc-js";
import { describeError, type ErrorCode, FleetingdError } from "../errors.ts";

/** Told of each call that has one answer, when it was given. */
export type OnCall = (operation: string, seconds: number, failed: boolean) => void;

/** Calls of which no more than so many are under way at a time, over all connections: the others are refused. */
export function limitedCalls(most: number, onCall: OnCall) {
  let underWay = 0;
  const begin = (): void => {
    if (underWay >= most) {
      throw new FleetingdError("EXHAUSTED", `the daemon has ${most} requests to answer already`, {
        hint: "Try again in a while; see who asks so much.",
      });
    }
    underWay += 1;
  };
  const unary =
    <Request, Reply>(
      operation: string,
      work: (request: Request) => Promise<Reply>,
    ): handleUnaryCall<Request, Reply> =>
    (call, callback) => {
      const begunAt = performance.now();
      const told = (failed: boolean): void =>
        onCall(operation, (performance.now() - begunAt) / 1_000, failed);
      const answer = async (): Promise<Reply> => {
        begin();
        try {
          return await work(call.request);
        } finally {
          underWay -= 1;
        }
      };
      answer().then(
        (reply) => {
          told(false);
          callback(null, reply);
        },
        (error: unknown) => {
          told(true);
          callback(toServiceError(error), null);
        },
      );
    };
  const streaming =
    <Request, Reply>(
      work: (call: ServerWritableStream<Request, Reply>) => Promise<void>,
    ): handleServerStreamingCall<Request, Reply> =>
    (call) => {
      const serve = async (): Promise<void> => {
        begin();
        // A plugin's stream stays open long after the work for it is done; only one of these is sure to come.
        let isOpen = true;
        const end = (): void => {
          if (isOpen) underWay -= 1;
          isOpen = false;
        };
        for (const event of ["finish", "cancelled", "error"]) call.once(event, end);
        await work(call);
      };
      serve().catch((error: unknown) => call.emit("error", toServiceError(error)));
    };
  return { unary, streaming };
}

const GRPC_CODES: Partial<Record<ErrorCode, Status>> = {
  INVALID_CONFIG: Status.INVALID_ARGUMENT,
  INVALID_ARGUMENT: Status.INVALID_ARGUMENT,
  NOT_FOUND: Status.NOT_FOUND,
  UNAVAILABLE: Status.UNAVAILABLE,
  EXHAUSTED: Status.RESOURCE_EXHAUSTED,
  TIMEOUT: Status.DEADLINE_EXCEEDED,
  CANCELLED: Status.CANCELLED,
  PERMISSION: Status.PERMISSION_DENIED,
};

export function toServiceError(error: unknown): Partial<ServiceError> {
  const code =
    error instanceof FleetingdError ? (GRPC_CODES[error.code] ?? Status.INTERNAL) : Status.INTERNAL;
  return { code, details: describeError(error) };
}
