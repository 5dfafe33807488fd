/** What happens, newest first. */
import { Card } from "./card.tsx";
import type { KeyedEvent } from "./state.ts";
import { clock } from "./time.ts";

interface EventsProps {
  events: readonly KeyedEvent[];
  onChoose(id: string): void;
}

export function Events({ events, onChoose }: EventsProps) {
  return (
    <Card id="events" title="Events">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by keyboard */}
      <section class="scroll" aria-label="Newest events first" tabIndex={0}>
        <ol class="events">
          {events.toReversed().map(({ key, time, instance, pool, what, isProblem }) => (
            <li key={key} class={isProblem ? "problem" : undefined}>
              <time class="muted" dateTime={time}>
                {clock(time)}
              </time>
              <span>
                {instance !== null ? (
                  <button type="button" class="vm" onClick={() => onChoose(instance)}>
                    {instance}
                  </button>
                ) : (
                  <b>{pool}</b>
                )}{" "}
                {what}
              </span>
            </li>
          ))}
        </ol>
        {events.length === 0 && <p class="muted">Nothing has happened yet.</p>}
      </section>
    </Card>
  );
}
