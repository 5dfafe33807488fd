/**
 * The daemon's service without VMs, in this process: what a plugin can be tested with. It keeps the contract of
 * fleetingd.proto; a test scripts it through `world`, which outlives a restart as the daemon's records do.
 */
import { type handleUnaryCall, Server, ServerCredentials, status as Status } from "@grpc/grpc-js";
import {
  type AttachRequest,
  type ConnectInfoReply,
  type DaemonServer,
  DaemonService,
  InstanceState,
} from "../../src/gen/fleetingd.ts";

export interface StandInInstance {
  id: string;
  group: string;
  state: InstanceState;
  lastError: string;
  connectInfo: ConnectInfoReply;
  /** Settles when its machine is there, or never will be. */
  created: Promise<void>;
}

/** What an instance is made of; the default has no machine behind it. */
export interface StandInMachines {
  create(id: string): Promise<Partial<ConnectInfoReply>>;
  destroy(id: string): Promise<void>;
}

export interface World {
  readonly instances: Map<string, StandInInstance>;
  /** Every Attach that has arrived. */
  readonly attached: AttachRequest[];
  /** Every other call that has arrived, by its name. */
  readonly calls: string[];
  readonly machines: StandInMachines;
  maxSize: number;
  version: string;
  /** How many instances Increase accepts at most in all. */
  capacity: number;
  /** New instances get ready by themselves; otherwise the test sets their state. */
  autoReady: boolean;
  /** Attach fails with INVALID_ARGUMENT and this sentence. */
  refusal: string | undefined;
  /** Calls of this name are never answered. */
  hanging: string | undefined;
}

export interface StandInDaemon {
  readonly socketPath: string;
  /** Groups whose Attach stream is open. */
  readonly groups: Set<string>;
  /** Dies as by SIGKILL: connections break, the world stays. */
  stop(): Promise<void>;
}

export function createWorld(options: Partial<World> = {}): World {
  return {
    instances: new Map(),
    attached: [],
    calls: [],
    machines: { create: async () => ({}), destroy: async () => undefined },
    maxSize: 10,
    version: "0.0.0-stand-in",
    capacity: 10,
    autoReady: true,
    refusal: undefined,
    hanging: undefined,
    ...options,
  };
}

export async function startStandInDaemon(socketPath: string, world: World): Promise<StandInDaemon> {
  const groups = new Set<string>();
  const server = new Server();
  server.addService(DaemonService, createService(world, groups));
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${socketPath}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
  return {
    socketPath,
    groups,
    stop: async () => {
      const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      server.forceShutdown();
      await closed;
    },
  };
}

let lastNumber = 0;

function createService(world: World, groups: Set<string>): DaemonServer {
  const unary =
    <Request, Reply>(name: string, work: (request: Request) => Reply): handleUnaryCall<Request, Reply> =>
    (call, callback) => {
      world.calls.push(name);
      if (world.hanging === name) return;
      try {
        callback(null, work(call.request));
      } catch (error) {
        callback(error as Error, null);
      }
    };
  const find = ({ group, id }: { group: string; id: string }): StandInInstance => {
    const instance = world.instances.get(id);
    if (instance?.group === group) return instance;
    throw failure(Status.NOT_FOUND, `there is no instance ${id} in the group ${group}`);
  };
  return {
    attach: (call) => {
      world.attached.push(call.request);
      if (world.hanging === "attach") return;
      if (world.refusal !== undefined) {
        call.emit("error", failure(Status.INVALID_ARGUMENT, world.refusal));
        return;
      }
      const group = call.request.group || freeGroup(groups);
      groups.add(group);
      call.once("cancelled", () => groups.delete(group));
      call.write({ group, pool: "stand-in", maxSize: world.maxSize, version: world.version });
    },
    listInstances: unary("listInstances", ({ group }) => ({
      instances: [...world.instances.values()].filter((instance) => instance.group === group),
    })),
    increase: unary("increase", ({ group, n }) => {
      const accepted = Math.max(0, Math.min(n, world.capacity - world.instances.size));
      for (let i = 0; i < accepted; i++) createInstance(world, group);
      return { accepted, reason: accepted < n ? `the pool holds at most ${world.capacity} instances` : "" };
    }),
    decrease: unary("decrease", ({ group, ids }) => {
      for (const id of ids) if (world.instances.get(id)?.group === group) destroyInstance(world, id);
      return { ids };
    }),
    connectInfo: unary("connectInfo", (request) => find(request).connectInfo),
    heartbeat: unary("heartbeat", (request) => {
      find(request);
      return {};
    }),
    status: unary("status", () => ({ json: "{}" })),
    drain: (call) => call.end(),
    remove: unary("remove", () => ({})),
    events: (call) => call.end(),
    logs: (call) => call.end(),
    images: unary("images", () => ({ json: "{}" })),
    metrics: unary("metrics", () => ({ text: "" })),
    collectGarbage: unary("collectGarbage", () => ({ json: "{}" })),
    prebuild: (call) => call.end(),
  };
}

function createInstance(world: World, group: string): void {
  lastNumber++;
  const id = `stand-in-${lastNumber}`;
  const instance: StandInInstance = {
    id,
    group,
    state: InstanceState.INSTANCE_CREATING,
    lastError: "",
    connectInfo: {
      os: "linux",
      arch: "amd64",
      protocol: "ssh",
      username: "ubuntu",
      password: "",
      key: Buffer.from("a key"),
      externalAddress: "192.0.2.1",
      internalAddress: "172.16.120.2",
      port: 22,
      expires: 0n,
    },
    created: Promise.resolve(),
  };
  world.instances.set(id, instance);
  instance.created = world.machines.create(id).then(
    (info) => {
      Object.assign(instance.connectInfo, info);
      const wanted = instance.state === InstanceState.INSTANCE_CREATING;
      if (wanted && world.autoReady) instance.state = InstanceState.INSTANCE_RUNNING;
    },
    (error: unknown) => {
      instance.state = InstanceState.INSTANCE_TIMEOUT;
      instance.lastError = String(error);
    },
  );
}

function destroyInstance(world: World, id: string): void {
  const instance = world.instances.get(id);
  if (instance === undefined || instance.state === InstanceState.INSTANCE_DELETING) return;
  instance.state = InstanceState.INSTANCE_DELETING;
  instance.created
    .then(() => world.machines.destroy(id))
    .then(
      () => world.instances.delete(id),
      (error: unknown) => {
        instance.lastError = String(error);
      },
    );
}

function freeGroup(groups: Set<string>): string {
  for (let number = 1; ; number++) {
    const group = `stand-in/${number}`;
    if (!groups.has(group)) return group;
  }
}

function failure(code: Status, message: string): Error {
  return Object.assign(new Error(message), { code });
}
