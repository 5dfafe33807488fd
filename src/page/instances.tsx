/** The table of all VMs: any number of them, sorted and filtered. */
import { Component } from "preact";
import { useState } from "preact/hooks";
import { conditionOf, formatAge, formatBytes } from "../api/text.ts";
import type { PageInstance } from "../web/messages.ts";
import { type Column, listed, type Order } from "./sorting.ts";
import type { PageState } from "./state.ts";

const COLUMNS: readonly { column: Column; title: string }[] = [
  { column: "instance", title: "VM" },
  { column: "state", title: "State" },
  { column: "age", title: "Age" },
  { column: "pool", title: "Pool" },
  { column: "address", title: "Address" },
  { column: "group", title: "Used by" },
  { column: "traffic", title: "Traffic" },
  { column: "error", title: "Last error" },
];

interface InstancesProps {
  state: PageState;
  onChoose(id: string): void;
}

export function Instances({ state, onChoose }: InstancesProps) {
  const [order, setOrder] = useState<Order>({ column: "state", isReversed: false });
  const [filter, setFilter] = useState("");
  const all = state.instances.size;
  const rows = listed(state.instances.values(), order, filter);
  const sortBy = (column: Column): void =>
    setOrder({ column, isReversed: column === order.column && !order.isReversed });
  return (
    <section id="vms" class="card vms" aria-labelledby="vms-title" tabIndex={-1}>
      <div class="bar">
        <h2 id="vms-title">VMs</h2>
        <span class="muted" role="status">
          {filter === "" ? all : `${rows.length} of ${all}`}
        </span>
        <input
          type="search"
          placeholder="Filter"
          aria-label="Filter VMs by any word of theirs"
          value={filter}
          onInput={({ currentTarget }) => setFilter(currentTarget.value)}
        />
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by keyboard */}
      <section class="scroll" aria-label="All VMs" tabIndex={0}>
        <table aria-labelledby="vms-title">
          <thead>
            <tr>
              {COLUMNS.map(({ column, title }) => (
                <th
                  key={column}
                  scope="col"
                  class={`of-${column}`}
                  aria-sort={order.column !== column ? "none" : order.isReversed ? "descending" : "ascending"}
                >
                  <button type="button" onClick={() => sortBy(column)}>
                    {title}
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          {groupsOf(rows).map(({ first, members }) => (
            <tbody key={first}>
              {members.map((one) => (
                <Row
                  key={one.id}
                  instance={one}
                  age={formatAge((state.at - one.createdAt) / 1_000)}
                  onChoose={onChoose}
                />
              ))}
            </tbody>
          ))}
        </table>
        {rows.length === 0 && (
          <p class="muted empty">{all === 0 ? "There are no VMs." : "None has such words."}</p>
        )}
      </section>
    </section>
  );
}

/** So many rows are drawn, or are not, at once: to look after each by itself takes longer than to draw it. */
const GROUP = 20;

function groupsOf(rows: readonly PageInstance[]): { first: number; members: readonly PageInstance[] }[] {
  return Array.from({ length: Math.ceil(rows.length / GROUP) }, (_, index) => {
    const first = index * GROUP;
    return { first, members: rows.slice(first, first + GROUP) };
  });
}

interface RowProps {
  instance: PageInstance;
  age: string;
  onChoose(id: string): void;
}

/** Drawn anew only if something of it is new: there may be hundreds, and a picture every second. */
class Row extends Component<RowProps> {
  override shouldComponentUpdate({ instance, age }: RowProps): boolean {
    return instance !== this.props.instance || age !== this.props.age;
  }

  override render({ instance, age, onChoose }: RowProps) {
    const { id, pool, address, group, traffic, lastError, failures, retryInSeconds } = instance;
    const retry = failures === 0 ? "" : ` (${failures} failed, next try in ${retryInSeconds} s)`;
    return (
      <tr>
        <th scope="row" class="of-instance">
          <button type="button" class="vm" onClick={() => onChoose(id)}>
            {id}
          </button>
        </th>
        <td class="of-state">
          <State instance={instance} />
        </td>
        <td class="of-age">{age}</td>
        <td class="of-pool">{pool}</td>
        <td class="of-address">{address ?? "–"}</td>
        <td class="of-group">{group ?? "–"}</td>
        <td class="of-traffic">{trafficText(traffic)}</td>
        <td class="of-error" title={lastError ?? undefined}>
          {lastError === null ? "" : `${lastError}${retry}`}
        </td>
      </tr>
    );
  }
}

export function State({ instance }: { instance: PageInstance }) {
  const { state, group } = instance;
  const look = state === "ready" ? (group === null ? "warm" : "in-use") : state;
  return <span class={`badge ${look}`}>{conditionOf(instance)}</span>;
}

export function trafficText(traffic: PageInstance["traffic"]): string {
  return traffic === null
    ? "–"
    : `↓ ${formatBytes(traffic.receivedBytes)} ↑ ${formatBytes(traffic.sentBytes)}`;
}
