/** What a VM prints on its console, as it comes: text of whoever's job it has, and nothing but text. */
import { useEffect, useRef, useState } from "preact/hooks";

const MAX_LENGTH = 256 * 1024;
/** So near to its end, it is followed. */
const FOLLOW_PX = 40;

export function Console({ id }: { id: string }) {
  const output = useRef<HTMLPreElement>(null);
  const [note, setNote] = useState("");
  useEffect(() => {
    const leaving = new AbortController();
    const onText = (text: string): void => {
      if (output.current !== null) append(output.current, text);
    };
    readConsole(id, leaving.signal, onText).then(setNote, (error: unknown) => {
      if (leaving.signal.aborted) return;
      if (!(error instanceof TypeError)) throw error;
      setNote("The connection is lost.");
    });
    return () => leaving.abort();
  }, [id]);
  return (
    <>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by keyboard */}
      <section class="console" aria-label={`Console of ${id}`} tabIndex={0}>
        <pre ref={output} />
      </section>
      {note !== "" && <p class="muted">{note}</p>}
    </>
  );
}

/** @returns why there is no more */
async function readConsole(id: string, signal: AbortSignal, onText: (text: string) => void): Promise<string> {
  const { ok, body } = await fetch(`instances/${id}/console`, { signal });
  if (!ok || body === null) return "It has no console yet, or none on this host.";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return "It has ended.";
    onText(value);
  }
}

function append(output: HTMLElement, text: string): void {
  const view = output.parentElement ?? output;
  const isAtEnd = view.scrollHeight - view.scrollTop - view.clientHeight < FOLLOW_PX;
  output.append(text);
  let length = output.textContent?.length ?? 0;
  while (length > MAX_LENGTH && output.firstChild !== null && output.childNodes.length > 1) {
    length -= output.firstChild.textContent?.length ?? 0;
    output.firstChild.remove();
  }
  if (isAtEnd) view.scrollTop = view.scrollHeight;
}
