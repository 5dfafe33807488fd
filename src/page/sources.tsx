/** Where VMs are made, and whether that works. */

import type { PoolSourceStatus, PoolStatus } from "../api/status.ts";
import { Card } from "./card.tsx";

export function Sources({ pools }: { pools: readonly PoolStatus[] }) {
  return (
    <Card id="sources" title="Sources">
      <table class="plain" aria-labelledby="sources-title">
        <thead>
          <tr>
            <th scope="col">Source</th>
            <th scope="col">Pool</th>
            <th scope="col">State</th>
            <th scope="col">VMs</th>
          </tr>
        </thead>
        <tbody>
          {pools.flatMap((pool) =>
            sourcesOf(pool).map(({ name, state, problem, retryInSeconds, instances, maxInstances }) => (
              <tr key={`${pool.name} ${name}`}>
                <th scope="row">{name}</th>
                <td>{pool.name}</td>
                <td class="long">
                  <span class={`badge ${LOOKS[state]}`}>{state}</span> {problem}
                  {retryInSeconds > 0 && ` (next try in ${retryInSeconds} s)`}
                </td>
                <td>
                  {instances}
                  {maxInstances !== null && ` of ${maxInstances}`}
                </td>
              </tr>
            )),
          )}
        </tbody>
      </table>
    </Card>
  );
}

const LOOKS = { ok: "warm", full: "creating", failing: "failed" } as const;

type Source = Omit<PoolSourceStatus, "type" | "costPerHour">;

/** A pool with this host alone names no sources: its own trouble is that of this one. */
function sourcesOf({
  sources,
  source,
  lastError,
  retryInSeconds,
  counts,
  maxInstances,
}: PoolStatus): readonly Source[] {
  if (sources.length > 0) return sources;
  const instances = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const state = lastError === null ? "ok" : retryInSeconds > 0 ? "failing" : "full";
  return [{ name: source, state, problem: lastError, retryInSeconds, instances, maxInstances }];
}
