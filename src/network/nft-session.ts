/**
 * A long-lived `nft -i`: most of what a VM's rules cost is otherwise the start of the program.
 *
 * Only commands on single elements go through it, each transaction as one line, one at a time. After each comes a word
 * that no version of nft knows: its complaint of that, on the same stream as every other one, says that the line before
 * has been dealt with. Whatever else the session is asked, or if it can't be had or ends, `nft -f -` does instead.
 * It ends when nobody used it for a while, and with this process, which is the other end of its input.
 */
import { FleetingdError } from "../errors.ts";
import { type ChildProcess, endChild, hasEnded, startChild } from "../host/child.ts";
import { applyNft, explainedNftError, NFT_TIMEOUT_MS } from "./nft.ts";
import { NFT_TABLE } from "./nft-elements.ts";

export interface NftSession {
  /** Applies `text` as one transaction; not while another is under way. @throws as `applyNft` does */
  apply(text: string): Promise<void>;
  /** Ends the program; the next transaction starts another one. */
  close(): Promise<void>;
}

const IDLE_MS = 10_000;
const MAX_LINE_LENGTH = 64 * 1024;
/** One command of which nft can read nothing else, however it is joined with others. */
const ELEMENT_COMMAND = new RegExp(
  `^(?:add|delete) element (?:inet|arp) ${NFT_TABLE} [a-z0-9_-]+ \\{ ["A-Za-z0-9_.:@ -]+ \\}$`,
);

export function createNftSession(): NftSession {
  let child: ChildProcess | undefined;
  let idle: NodeJS.Timeout | undefined;
  let transactions = 0;

  const close = async (): Promise<void> => {
    clearTimeout(idle);
    const ending = child;
    child = undefined;
    if (ending === undefined) return;
    ending.kill("SIGKILL");
    await endChild(ending);
  };

  const open = async (): Promise<ChildProcess | undefined> => {
    if (child !== undefined && !hasEnded(child)) return child;
    try {
      // It would leave its history in a home.
      const env = { ...process.env, HOME: "/nonexistent" };
      child = await startChild("nft", ["-i"], { stdio: ["pipe", "ignore", "pipe"], env });
    } catch (error) {
      if (error instanceof FleetingdError) return undefined;
      throw error;
    }
    // The session alone is no reason for this process to stay, and a broken pipe is seen by its end.
    child.unref();
    for (const stream of [child.stdin, child.stderr]) {
      stream?.on("error", () => undefined);
      if (stream !== null && "unref" in stream && typeof stream.unref === "function") stream.unref();
    }
    return child;
  };

  return {
    close,
    async apply(text) {
      const line = oneLine(text);
      const session = line === undefined ? undefined : await open();
      if (line === undefined || session === undefined) return applyNft(text);
      clearTimeout(idle);
      transactions += 1;
      const complaint = await complaintOf(session, line, `fleetingd-transaction-${transactions}`);
      if (complaint === "timeout" || complaint === "ended") await close();
      else idle = setTimeout(() => void close(), IDLE_MS).unref();
      if (complaint === undefined) return;
      if (complaint === "ended") return applyNft(text);
      throw complaint === "timeout"
        ? new FleetingdError("TIMEOUT", `timed out after ${NFT_TIMEOUT_MS / 1000} s: nft -i`)
        : explainedNftError(
            new FleetingdError("COMMAND_FAILED", `nft refused a change:\n${complaint.text}`),
            "change",
          );
    },
  };
}

/** Undefined if this has to go another way. */
function oneLine(text: string): string | undefined {
  const commands = text.trimEnd().split("\n");
  if (text.length > MAX_LINE_LENGTH || !commands.every((command) => ELEMENT_COMMAND.test(command)))
    return undefined;
  return commands.join("; ");
}

/** What nft says to this line; undefined if nothing. */
async function complaintOf(
  { stdin, stderr }: ChildProcess,
  line: string,
  word: string,
): Promise<{ text: string } | "timeout" | "ended" | undefined> {
  const answered = new RegExp(`(?:^|\\n)Error: [^\\n]*\\n${word}\\n[ ^]*\\n$`);
  let said = "";
  let onData: (data: Buffer) => void = () => undefined;
  let onEnd: () => void = () => undefined;
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise((settle) => {
      onData = (data) => {
        said += data.toString();
        const found = answered.exec(said);
        if (found !== null) settle(found.index === 0 ? undefined : { text: said.slice(0, found.index) });
      };
      onEnd = () => settle("ended");
      timer = setTimeout(() => settle("timeout"), NFT_TIMEOUT_MS);
      stderr?.on("data", onData);
      stderr?.once("close", onEnd);
      stdin?.write(`${line}\n${word}\n`);
    });
  } finally {
    clearTimeout(timer);
    stderr?.off("data", onData);
    stderr?.off("close", onEnd);
  }
}
