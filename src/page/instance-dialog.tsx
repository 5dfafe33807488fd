/** One VM: what is known of it, its life, its console. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { Timeline } from "../api/events.ts";
import { formatAge } from "../api/text.ts";
import type { Access, PageInstance } from "../web/messages.ts";
import { ActionButton } from "./action.tsx";
import { Console } from "./console.tsx";
import { State, trafficText } from "./instances.tsx";
import type { PageState } from "./state.ts";
import { clock, duration } from "./time.ts";

interface InstanceDialogProps {
  id: string;
  state: PageState;
  access: Access;
  onClose(): void;
}

export function InstanceDialog({ id, state, access, onClose }: InstanceDialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const instance = state.instances.get(id);
  const life = useLife(id, state.events.findLast((event) => event.instance === id)?.key);
  return (
    <dialog ref={dialog} onClose={onClose} aria-labelledby="vm-title">
      <div class="bar">
        <h2 id="vm-title">{id}</h2>
        {instance !== undefined && <State instance={instance} />}
        <button type="button" class="close" onClick={() => dialog.current?.close()}>
          Close
        </button>
      </div>
      {life !== undefined && <p>{life.outcome}</p>}
      {instance !== undefined && <Facts instance={instance} at={state.at} />}
      {access.actions && (
        <ActionButton
          action={{ action: "remove", instance: id }}
          question={removalOf(id, instance?.group ?? null)}
          isOff={instance?.state !== "ready" && instance?.state !== "creating"}
        >
          Remove this VM
        </ActionButton>
      )}
      <h3>Life</h3>
      {life === undefined ? <p class="muted">Nothing is known of it.</p> : <Life life={life} />}
      <h3>Console</h3>
      {access.consoles ? (
        <Console id={id} />
      ) : (
        <p class="muted">
          Consoles are shown to who has shown a token, or comes by the page's unix socket. On the host:{" "}
          <code>sudo fleetingd console {id}</code>
        </p>
      )}
    </dialog>
  );
}

function removalOf(id: string, group: string | null): string {
  const what = `Remove ${id}?`;
  if (group === null) return `${what} The pool makes another one if it has too few.`;
  return `${what} ${group} uses it: a job that runs there fails.`;
}

function Facts({ instance, at }: { instance: PageInstance; at: number }) {
  const { pool, group, address, traffic, createdAt, goldenImage, snapshot, lastError } = instance;
  const facts: [string, string | null][] = [
    ["Pool", pool],
    ["Used by", group],
    ["Address", address],
    ["Age", formatAge((at - createdAt) / 1_000)],
    ["Traffic", traffic === null ? null : trafficText(traffic)],
    ["Golden image", goldenImage],
    ["Snapshot", snapshot],
    ["Last error", lastError],
  ];
  return (
    <dl class="facts">
      {facts.map(
        ([name, value]) =>
          value !== null && (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

function Life({ life }: { life: Timeline }) {
  return (
    <ol class="events">
      {life.steps.map(({ time, seconds, what, isProblem }, index) => (
        <li key={`${index} ${time}`} class={isProblem ? "problem" : undefined}>
          <time class="muted" dateTime={time}>
            {clock(time)}
          </time>
          <span>
            {what} {seconds !== null && <span class="muted">{duration(seconds)}</span>}
          </span>
        </li>
      ))}
    </ol>
  );
}

/** Asked for again whenever something has happened to it. */
function useLife(id: string, lastEvent: number | undefined): Timeline | undefined {
  const [life, setLife] = useState<Timeline>();
  useEffect(() => {
    const leaving = new AbortController();
    const ask = async (): Promise<void> => {
      try {
        const response = await fetch(`instances/${id}`, { signal: leaving.signal });
        if (response.ok) setLife((await response.json()) as Timeline);
      } catch (error) {
        // Without a connection it stays as it was, which the page says at its head.
        if (!leaving.signal.aborted && !(error instanceof TypeError)) throw error;
      }
    };
    void ask();
    return () => leaving.abort();
  }, [id, lastEvent]);
  return life;
}
