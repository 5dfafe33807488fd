/** A card for each pool: what its places are used for, and what new VMs are made of. */
import type { PoolStatus } from "../api/status.ts";
import { formatAge } from "../api/text.ts";
import type { Access } from "../web/messages.ts";
import { ActionButton } from "./action.tsx";
import { levelOf } from "./verdict.ts";

export function Pools({ pools, access }: { pools: readonly PoolStatus[]; access: Access }) {
  if (pools.length === 0)
    return (
      <p class="card">
        Add a table <code>[pools.default]</code> to the configuration, and there will be VMs.
      </p>
    );
  return (
    <section class="pools" aria-label="Pools">
      {pools.map((pool) => (
        <Pool key={pool.name} pool={pool} access={access} />
      ))}
    </section>
  );
}

function Pool({ pool, access }: { pool: PoolStatus; access: Access }) {
  const { name, warm, counts, maxInstances, clones } = pool;
  const parts = [
    { name: "in use", count: (counts.ready ?? 0) - warm.actual },
    { name: "warm", count: warm.actual },
    { name: "creating", count: counts.creating ?? 0 },
    { name: "deleting", count: counts.deleting ?? 0 },
    { name: "failed", count: counts.failed ?? 0 },
  ];
  const used = parts.reduce((sum, { count }) => sum + count, 0);
  return (
    <article class={`card pool ${levelOf(pool)}`}>
      <h3>{name}</h3>
      <p class="warm-count">
        <b>{warm.actual}</b> of {warm.desired} warm
        {pool.draining && <span class="badge busy">draining</span>}
      </p>
      <Meter parts={parts} total={Math.max(maxInstances, used)} />
      <ul class="legend">
        {parts
          .filter(({ count }) => count > 0)
          .map((part) => (
            <li key={part.name} class={part.name.replace(" ", "-")}>
              {part.count} {part.name}
            </li>
          ))}
        <li class="free">
          {Math.max(0, maxInstances - used)} free of {maxInstances}
        </li>
      </ul>
      <p class="muted">
        <ImageOf pool={pool} />
        {clones.problem !== null && <> VMs boot: {clones.problem}</>}
      </p>
      {access.actions && pool.image !== null && (
        <ActionButton action={{ action: "prebuild", pool: name }} isOff={pool.prebuild.state === "running"}>
          Make its image anew<span class="hidden"> ({name})</span>
        </ActionButton>
      )}
    </article>
  );
}

function ImageOf({
  pool: { goldenImage, goldenImageAgeSeconds: age, prebuild, image, clones },
}: {
  pool: PoolStatus;
}) {
  if (prebuild.state === "running")
    return <>Its golden image is being made: {prebuild.step ?? "it has just begun"}.</>;
  if (prebuild.state === "failed")
    return <span class="problem">The last prebuild failed: {prebuild.error}</span>;
  if (goldenImage === null)
    return <>{image === null ? "Its VMs are elsewhere." : "It has no golden image yet."}</>;
  return (
    <>
      Golden image <code>{goldenImage}</code>
      {age !== null && <>, {formatAge(age)} old</>}
      {clones.snapshot !== null && ", resumed from a snapshot"}.
    </>
  );
}

function Meter({ parts, total }: { parts: readonly { name: string; count: number }[]; total: number }) {
  let before = 0;
  return (
    <svg class="meter" aria-hidden="true" width="100%" height="12">
      <rect class="free" width="100%" height="12" />
      {parts.map(({ name, count }) => {
        const x = before;
        before += count;
        const percent = (n: number): string => `${((n / Math.max(1, total)) * 100).toFixed(3)}%`;
        return (
          <rect key={name} class={name.replace(" ", "-")} x={percent(x)} width={percent(count)} height="12" />
        );
      })}
    </svg>
  );
}
