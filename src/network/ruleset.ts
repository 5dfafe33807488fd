/**
 * Our nftables rules as they should be, and their way into the kernel.
 *
 * Invariants: `wanted` is what the kernel has after the last change that succeeded, unless `trusted` is false. Then,
 * or when a transaction fails, the kernel is read, brought to what is wanted, and the transaction tried once more:
 * so rules that somebody removed come back at the latest with the next VM. Changes that come together are one transaction.
 */
import { isDeepStrictEqual } from "node:util";
import { FleetingdError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { createBatcher } from "./batch.ts";
import { applyNft, REBUILD_TIMEOUT_MS, readInstalledRules } from "./nft.ts";
import { changeText, type VmElement } from "./nft-elements.ts";
import { createNftSession } from "./nft-session.ts";
import {
  policyReplacementText,
  type RuleOptions,
  rebuildText,
  removalText,
  rulesMarker,
} from "./nft-text.ts";
import type { Policy } from "./policy.ts";

export interface Ruleset {
  /** Brings the kernel to what is wanted; changes nothing if it is there already. */
  ensure(): Promise<void>;
  /** Makes `elements` the ones of this TAP, none if there are none. All or nothing. */
  set(tapName: string, elements: readonly VmElement[]): Promise<void>;
  /** Puts a policy in force, for VMs that have it already, too; all else stays as it is, and so do connections. */
  setPolicy(policy: Policy): Promise<void>;
  hasPolicy(name: string): boolean;
  /** Changes what the other static rules depend on. */
  configure(change: Partial<Omit<RuleOptions, "policies">>): Promise<void>;
  /** The TAPs that have elements. */
  taps(): Promise<string[]>;
  /** Changes nothing more for now, and keeps no program for it. */
  release(): Promise<void>;
  /** Removes our tables. */
  remove(): Promise<void>;
}

interface Change {
  tapName: string;
  elements: readonly VmElement[];
}
type Request = "ensure" | { options: Partial<RuleOptions> } | { policy: Policy } | Change;
type ElementsByTap = Map<string, readonly VmElement[]>;

const MAX_CHANGES_PER_TRANSACTION = 500;

export function createRuleset(initial: RuleOptions, logger: Logger): Ruleset {
  let options = initial;
  let wanted: ElementsByTap = new Map();
  let trusted = false;
  let wasWritten = false;
  const session = createNftSession();

  const reconcile = async (): Promise<void> => {
    trusted = false;
    const installed = await readInstalledRules();
    const found = byTap(installed?.elements ?? []);
    const merged: ElementsByTap = new Map([...found, ...wanted]);
    if (installed === undefined || !installed.chains.has(rulesMarker(options))) {
      const fields = { vms: merged.size, before: installed ? "other version" : "none" };
      if (installed === undefined && wasWritten)
        logger.warn("our nftables rules are gone: writing them again", fields);
      else logger.info("writing the nftables rules", fields);
      await applyNft(rebuildText(options, [...merged.values()].flat()), REBUILD_TIMEOUT_MS);
    } else {
      const text = [...wanted]
        .map(([tap, elements]) => differenceText(found.get(tap) ?? [], elements))
        .join("");
      if (text !== "") {
        logger.warn("nftables elements of VMs were missing or changed; they are put back");
        await applyNft(text);
      }
    }
    wanted = merged;
    trusted = true;
    wasWritten = true;
  };

  const applyChanges = async (changes: readonly Change[]): Promise<void> => {
    const after: ElementsByTap = new Map();
    const text = changes.map(({ tapName, elements }) => {
      const before = after.get(tapName) ?? wanted.get(tapName) ?? [];
      after.set(tapName, elements);
      return changeText(before, elements);
    });
    if (text.some((part) => part !== "")) await session.apply(text.join(""));
    for (const [tapName, elements] of after) {
      if (elements.length === 0) wanted.delete(tapName);
      else wanted.set(tapName, elements);
    }
  };

  const applyPolicies = async (policies: readonly Policy[]): Promise<void> => {
    for (const policy of policies) {
      const [before, after] = [options, withPolicy(options, policy)];
      if (after === before) continue;
      const text = policyReplacementText(before, after, policy.name);
      options = after;
      await applyNft(text);
    }
  };

  const request = createBatcher<Request>(async (batch) => {
    const { changes, policies, others } = sorted(batch);
    options = { ...options, ...others };
    const fresh = trusted && changes.length + policies.length === batch.length;
    if (!fresh) await reconcile();
    try {
      await applyPolicies(policies);
      await applyChanges(changes);
    } catch (error) {
      trusted = false;
      // After a timeout nobody knows what happened, and right after a look at the kernel nothing new is to be learned.
      if (!fresh || !(error instanceof FleetingdError) || error.code !== "COMMAND_FAILED") throw error;
      await reconcile();
      await applyChanges(changes);
    }
  }, MAX_CHANGES_PER_TRANSACTION);

  return {
    ensure: () => request("ensure"),
    set: (tapName, elements) => request({ tapName, elements }),
    setPolicy: (policy) => request({ policy }),
    hasPolicy: (name) => options.policies.has(name),
    configure: (change) => request({ options: change }),
    async taps() {
      if (!trusted) await request("ensure");
      return [...wanted.keys()];
    },
    release: () => session.close(),
    async remove() {
      await session.close();
      await applyNft(removalText());
      wanted = new Map();
      trusted = false;
      wasWritten = false;
    },
  };
}

function sorted(batch: readonly Request[]) {
  const [changes, policies, others]: [Change[], Policy[], Partial<RuleOptions>] = [[], [], {}];
  for (const item of batch) {
    if (item === "ensure") continue;
    if ("policy" in item) policies.push(item.policy);
    else if ("options" in item) Object.assign(others, item.options);
    else changes.push(item);
  }
  return { changes, policies, others };
}

function withPolicy(options: RuleOptions, policy: Policy): RuleOptions {
  const { policies } = options;
  if (isDeepStrictEqual(policies.get(policy.name), policy)) return options;
  return { ...options, policies: new Map(policies).set(policy.name, policy) };
}

function byTap(elements: readonly VmElement[]): ElementsByTap {
  const taps = new Map<string, VmElement[]>();
  for (const element of elements) {
    const [tapName = ""] = element.key;
    const list = taps.get(tapName);
    if (list === undefined) taps.set(tapName, [element]);
    else list.push(element);
  }
  return taps;
}

function differenceText(found: readonly VmElement[], wanted: readonly VmElement[]): string {
  const signature = (elements: readonly VmElement[]): string =>
    elements
      .map(({ set, key }) => [set, ...key].join(" "))
      .sort()
      .join("\n");
  return signature(found) === signature(wanted) ? "" : changeText(found, wanted);
}
