/** One glance: how it is, and how many VMs do what. */
import { useEffect } from "preact/hooks";
import type { PageState } from "./state.ts";
import { verdictOf } from "./verdict.ts";

export function Overview({ state: { pools } }: { state: PageState }) {
  const { level, title, reasons } = verdictOf(pools);
  const sum = (of: (pool: (typeof pools)[number]) => number): number =>
    pools.reduce((total, pool) => total + of(pool), 0);
  const warm = sum((pool) => pool.warm.actual);
  const desired = sum((pool) => pool.warm.desired);
  useEffect(() => {
    document.title = `${level === "bad" ? "! " : ""}${warm}/${desired} warm – fleetingd`;
  }, [level, warm, desired]);
  const numbers = [
    { name: "warm", value: warm, of: desired },
    { name: "in use", value: sum((pool) => (pool.counts.ready ?? 0) - pool.warm.actual) },
    { name: "creating", value: sum((pool) => pool.counts.creating ?? 0) },
    { name: "deleting", value: sum((pool) => pool.counts.deleting ?? 0) },
    { name: "failed", value: sum((pool) => pool.counts.failed ?? 0) },
  ];
  return (
    <section class={`overview ${level}`} aria-label="Overview">
      <div>
        {/* Reasons count seconds down: only a change of the title is worth being read aloud. */}
        <h2>
          <span role="status">{title}</span>
        </h2>
        {reasons.map(({ pool, text }) => (
          <p key={pool}>
            <b>{pool}</b>: {text}
          </p>
        ))}
      </div>
      <dl class="numbers">
        {numbers.map(({ name, value, of }) => (
          <div key={name} class={value === 0 ? "number none" : `number ${name.replace(" ", "-")}`}>
            <dt>{name}</dt>
            <dd>
              {value}
              {of !== undefined && <small> of {of}</small>}
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
