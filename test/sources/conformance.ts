/**
 * What every cloud must do, asked of its real server where there is one: a cloud's own test file starts the server, says here how to
 * reach behind our back, and calls `describeCloud`.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { FleetingdError } from "../../src/errors.ts";
import { waitForLogin } from "../../src/host/ssh.ts";
import { silentLogger } from "../../src/log.ts";
import type { Cloud, Owner } from "../../src/sources/remote/cloud.ts";
import type { RemoteConfig } from "../../src/sources/remote/config.ts";
import { RemoteSource } from "../../src/sources/remote/remote-source.ts";
import type { ConnectInfo, SourceData, StoredInstance } from "../../src/sources/source.ts";
import { createUntil } from "../helpers/until.ts";

export interface CloudUnderTest {
  name: string;
  /** A client of its own for each call. */
  open(): Promise<Cloud>;
  config: RemoteConfig;
  /** Ids of the instances of `owner` as the server says them, asked by another way than ours. */
  machines(owner: Owner): Promise<string[]>;
  /** Ends one without our knowledge. */
  removeBehindOurBack(id: string): Promise<void>;
  /** A machine that is not ours, on the same server. @returns how to see whether it is still there, and to remove it */
  makeStranger(): Promise<{ exists(): Promise<boolean>; remove(): Promise<void> }>;
  stopServer(): Promise<void>;
  startServer(): Promise<void>;
  /** From now on the server does not know our credentials. @returns what undoes it */
  revokeCredentials(): Promise<() => Promise<void>>;
  /** The server allows so many machines more, and no others. @returns what undoes it */
  limit(machines: number): Promise<() => Promise<void>>;
  /** How an error says which limit that is. */
  limitSaid: RegExp;
  /** Whether machines have an SSH server that lets us in. */
  logsIn: boolean;
  /** How many are made at once. */
  burst: number;
  /** How long one may take. */
  patienceMs: number;
}

/** The pool's side of the contract: keeps what is saved, and remembers who was lost. */
interface World {
  owner: Owner;
  cloud: Cloud;
  source: RemoteSource;
  saved: Map<string, SourceData>;
  lost: Map<string, string>;
  directory: string;
}

export function describeCloud(under: CloudUnderTest): void {
  describe(`${under.name} as a source`, () => {
    let directory: string;
    const worlds: World[] = [];
    let counter = 0;

    before(async () => {
      directory = await mkdtemp(join(tmpdir(), "source-"));
    });
    after(async () => {
      for (const { source, cloud } of worlds) {
        await source.close();
        await cloud.close?.();
      }
      await rm(directory, { recursive: true });
    });

    /** A pool's source; `like`: after a restart of the daemon that had this one. */
    async function open(like?: World, config: Partial<RemoteConfig> = {}): Promise<World> {
      const owner = like?.owner ?? { daemon: "conformance", pool: `p${worlds.length}` };
      const cloud = await under.open();
      const source = new RemoteSource({
        name: under.name,
        type: under.name,
        owner,
        cloud,
        config: { ...under.config, pollIntervalMs: 500, missedPolls: 2, ...config },
        logger: silentLogger,
        ...(under.logsIn ? {} : { untilReady: async () => undefined }),
      });
      const world: World = { owner, cloud, source, directory, saved: new Map(like?.saved), lost: new Map() };
      source.onLost((id, reason) => void world.lost.set(id, reason));
      worlds.push(world);
      return world;
    }

    const newId = (): string => `fl-test${process.pid}x${++counter}`;
    const create = async (
      { source, saved }: World,
      id: string,
      signal?: AbortSignal,
    ): Promise<ConnectInfo> => {
      const context = {
        id,
        directory,
        save: async (data: SourceData) => void saved.set(id, data),
        phase: () => undefined,
        fellBack: () => undefined,
        signal: signal ?? AbortSignal.timeout(under.patienceMs),
      };
      return (await source.create(context)).connectInfo;
    };
    const stored = ({ saved }: World, id: string): StoredInstance => ({
      id,
      directory,
      data: saved.get(id) ?? {},
    });
    const remove = (world: World, id: string): Promise<void> =>
      world.source.delete(stored(world, id), AbortSignal.timeout(under.patienceMs));
    const eventually = createUntil({ timeoutMs: under.patienceMs, intervalMs: 100 });
    const codeOf = async (work: Promise<unknown>): Promise<FleetingdError> => {
      try {
        await work;
      } catch (error) {
        assert.ok(error instanceof FleetingdError, String(error));
        return error;
      }
      return assert.fail("it did not fail");
    };

    test("an instance is made, can be logged in to, is listed, and is gone after its deletion", async () => {
      const world = await open();
      const id = newId();
      const info = await create(world, id);
      assert.notEqual(info.address, "");
      if (under.logsIn) {
        const signal = AbortSignal.timeout(under.patienceMs);
        const login = await waitForLogin(
          { ...info, hostKey: undefined },
          { timeoutMs: under.patienceMs, signal },
        );
        const { stdout } = await login.exec("id -un", under.patienceMs);
        login.close();
        assert.equal(stdout.trim(), info.username);
      }
      assert.deepEqual(await under.machines(world.owner), [id]);
      const listed = await world.cloud.list(world.owner, AbortSignal.timeout(under.patienceMs));
      assert.deepEqual(
        listed.map((machine) => [machine.id, machine.state]),
        [[id, "running"]],
      );
      await remove(world, id);
      assert.deepEqual(await under.machines(world.owner), []);
      await remove(world, id);
    });

    test("what was never made is deleted without an error", async () => {
      const world = await open();
      await remove(world, newId());
    });

    test("an instance that is not wanted any more while it is made leaves nothing", async () => {
      const world = await open();
      for (const afterMs of [1, 300, 1_500]) {
        const id = newId();
        // A fast cloud may be done by then.
        await create(world, id, AbortSignal.timeout(afterMs)).catch(() => undefined);
        await remove(world, id);
      }
      assert.deepEqual(await under.machines(world.owner), []);
    });

    test("a restarted daemon finds its own again, deletes what no record names, and touches nothing else", async () => {
      const stranger = await under.makeStranger();
      const first = await open();
      const other = await open();
      const [kept, forgotten, others] = [newId(), newId(), newId()];
      await Promise.all([create(first, kept), create(first, forgotten), create(other, others)]);
      await first.source.close();

      const second = await open(first);
      assert.equal(await second.source.resume(stored(second, kept)), true);
      second.source.open({ sweep: true });
      await eventually("the machine without a record to go", async () => {
        return (await under.machines(second.owner)).length === 1;
      });
      assert.deepEqual(await under.machines(second.owner), [kept]);
      assert.deepEqual(await under.machines(other.owner), [others]);
      assert.equal(await stranger.exists(), true);
      assert.deepEqual([...second.lost], []);
      await Promise.all([remove(second, kept), remove(other, others), stranger.remove()]);
      assert.deepEqual(await under.machines(second.owner), []);
    });

    test("an instance that was deleted behind our back is lost, and its deletion is no error", async () => {
      const world = await open();
      const [id, beside] = [newId(), newId()];
      await Promise.all([create(world, id), create(world, beside)]);
      world.source.open({ sweep: true });
      await under.removeBehindOurBack(id);
      await eventually("the loss to be noticed", () => world.lost.has(id));
      assert.deepEqual([...world.lost.keys()], [id]);
      await Promise.all([remove(world, id), remove(world, beside)]);
      assert.deepEqual(await under.machines(world.owner), []);
    });

    test("the server is restarted while instances are made and deleted: none is lost, and none is left", async () => {
      const world = await open();
      const [kept, going, coming] = [newId(), newId(), newId()];
      await Promise.all([create(world, kept), create(world, going)]);
      world.source.open({ sweep: true });
      const creation = create(world, coming).then(
        () => true,
        () => false,
      );
      const deletion = remove(world, going).catch(() => undefined);
      await under.stopServer();
      await eventually("the failure to show", () => world.source.status()[0]?.state === "failing");
      assert.equal((await world.source.room()).vms, 0);
      await under.startServer();
      await Promise.all([creation, deletion]);
      await eventually("the source to come back", () => world.source.status()[0]?.state === "ok");
      assert.equal(world.lost.has(kept), false, "an instance that lives was given up");
      for (const id of [kept, going, coming]) {
        await eventually(`${id} to be deleted`, () =>
          remove(world, id).then(
            () => true,
            () => false,
          ),
        );
      }
      assert.deepEqual(await under.machines(world.owner), []);
    });

    test("credentials that were revoked are said, and instances are made again when they are back", async () => {
      const world = await open();
      const restore = await under.revokeCredentials();
      try {
        const error = await codeOf(create(world, newId()));
        assert.equal(error.code, "PERMISSION", error.message);
        assert.equal(world.source.status()[0]?.state, "failing");
      } finally {
        await restore();
      }
      world.source.open({ sweep: true });
      await eventually("the source to come back", () => world.source.status()[0]?.state === "ok");
      const id = newId();
      await create(world, id);
      await remove(world, id);
    });

    test("a quota that is reached is said by its name, and its room is used when there is some again", async () => {
      const world = await open();
      const restore = await under.limit(1);
      const [first, second, third] = [newId(), newId(), newId()];
      try {
        await create(world, first);
        const error = await codeOf(create(world, second));
        assert.equal(error.code, "EXHAUSTED", error.message);
        assert.match(error.message, under.limitSaid);
        assert.equal(world.source.status()[0]?.state, "full");
        assert.equal((await world.source.room()).vms, 0);
        await remove(world, second);
        await remove(world, first);
        assert.notEqual((await world.source.room()).vms, 0);
        await create(world, third);
        await remove(world, third);
      } finally {
        await restore();
      }
      assert.deepEqual(await under.machines(world.owner), []);
    });

    test(`${under.burst} at once`, async () => {
      const world = await open(undefined, {
        maxInstances: under.burst,
        createTimeoutMs: under.patienceMs * 4,
      });
      const ids = Array.from({ length: under.burst }, newId);
      const patient = AbortSignal.timeout(under.patienceMs * 4);
      const infos = await inParts(ids, under.config.maxConcurrentCreates, (id) => create(world, id, patient));
      assert.equal(
        new Set(infos.map(({ address }) => address)).size,
        under.burst,
        "each has an address of its own",
      );
      assert.deepEqual((await under.machines(world.owner)).toSorted(), ids.toSorted());
      await inParts(ids, under.config.maxConcurrentDeletes, (id) => remove(world, id));
      assert.deepEqual(await under.machines(world.owner), []);
    });
  });
}

/** As the pool does: so many at a time. */
async function inParts<T, R>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const queue = [...items];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) results.push(await work(item));
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return results;
}
