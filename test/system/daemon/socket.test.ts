import assert from "node:assert/strict";
import { chmod, mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { execa } from "execa";
import { Groups } from "../../../src/api/groups.ts";
import { type ApiServer, startApiServer } from "../../../src/api/server.ts";
import { createDaemonService, type DaemonFacade } from "../../../src/api/service.ts";
import { silentLogger } from "../../../src/log.ts";
import { needsNamespace } from "../../helpers/namespace.ts";

/** A group that every distribution has. */
const GROUP = "games";
const NOBODY = 65534;

const notAsked = (): never => assert.fail("nobody asks");
const NO_HISTORY = { list: notAsked, follow: notAsked };

describe("the daemon's socket", { skip: needsNamespace() }, () => {
  let directory: string;
  let socketPath: string;
  let server: ApiServer;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "fleetingd-socket-"));
    // Only the socket's own mode is to count.
    await chmod(directory, 0o711);
    socketPath = join(directory, "daemon.sock");
    const daemon: DaemonFacade = {
      version: "1",
      status: notAsked,
      poolFor: notAsked,
      prebuild: notAsked,
      drain: notAsked,
      remove: notAsked,
      collectGarbage: notAsked,
      metrics: notAsked,
      onCall: () => undefined,
      events: notAsked,
      history: { events: NO_HISTORY, logs: NO_HISTORY },
      images: notAsked,
    };
    const service = createDaemonService(daemon, new Groups(), silentLogger);
    server = await startApiServer({ socketPath, socketGroup: GROUP, service, logger: silentLogger });
  });

  after(async () => {
    await server.close();
    await rm(directory, { recursive: true });
  });

  /** What connecting to it ends with, for a process that is nobody's but for its group. */
  async function connectWith(gid: number): Promise<string> {
    const script = `require("node:net").connect(${JSON.stringify(socketPath)})
      .on("connect", () => { console.log("connected"); process.exit(); })
      .on("error", (error) => console.log(error.code));`;
    const options = { uid: NOBODY, gid, cwd: "/", timeout: 30_000 };
    return (await execa(process.execPath, ["-e", script], options)).stdout;
  }

  test("may be opened by its group, and by nobody else but root", async () => {
    const groups = await readFile("/etc/group", "utf8");
    const gid = Number(new RegExp(`^${GROUP}:[^:]*:(\\d+)`, "m").exec(groups)?.[1]);
    const { mode, uid, gid: hasGid } = await stat(socketPath);
    assert.deepEqual([mode & 0o777, uid, hasGid], [0o660, 0, gid]);
    assert.equal(await connectWith(gid), "connected");
    assert.equal(await connectWith(NOBODY), "EACCES");
  });
});
