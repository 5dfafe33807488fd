/** Buttons that change something: what cannot be undone is asked about first, and the daemon's answer is told beside them. */
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { PageAction } from "../web/messages.ts";

interface ActionButtonProps {
  action: PageAction;
  children: ComponentChildren;
  /** What is asked before; left out: it is done at once. */
  question?: string;
  /** It can't be done now, or need not. */
  isOff?: boolean;
}

interface Answer {
  text: string;
  isProblem: boolean;
}

/** Longer than the daemon's own. */
const TIMEOUT_MS = 15_000;
/** What was done is seen on the page by then. */
const TOLD_MS = 10_000;

export function ActionButton(props: ActionButtonProps) {
  const { action, children, question, isOff = false } = props;
  // What the button is for may change meanwhile; what was asked about is done.
  const [asked, ask] = useState<ActionButtonProps>();
  const [isBusy, setBusy] = useState(false);
  const [answer, setAnswer] = useState<Answer>();
  useEffect(() => {
    if (answer === undefined || answer.isProblem) return undefined;
    const timer = setTimeout(() => setAnswer(undefined), TOLD_MS);
    return () => clearTimeout(timer);
  }, [answer]);
  const act = async (wanted: PageAction): Promise<void> => {
    setBusy(true);
    setAnswer(await perform(wanted));
    setBusy(false);
  };
  const press = (): void => {
    if (isOff || isBusy) return;
    if (question === undefined) void act(action);
    else ask(props);
  };
  return (
    <div class="action">
      {/* Never disabled, nor gone: whoever works by keyboard would lose the place. */}
      <button type="button" aria-disabled={isOff || isBusy} onClick={press}>
        {children}
      </button>
      <span role="status" class={answer?.isProblem === true ? "problem" : "muted"}>
        {answer?.text}
      </span>
      {asked?.question !== undefined && (
        <Question
          text={question ?? asked.question}
          yes={asked.children}
          onYes={() => void act(asked.action)}
          onClose={() => ask(undefined)}
        />
      )}
    </div>
  );
}

interface QuestionProps {
  text: string;
  yes: ComponentChildren;
  onYes(): void;
  onClose(): void;
}

/** The browser keeps the focus within it, ends it with Escape, and puts the focus back. */
function Question({ text, yes, onYes, onClose }: QuestionProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => dialog.current?.showModal(), []);
  const close = (): void => dialog.current?.close();
  return (
    <dialog ref={dialog} class="question" role="alertdialog" aria-labelledby={id} onClose={onClose}>
      <p id={id}>{text}</p>
      <div class="bar">
        {/* The first one has the focus: Enter alone changes nothing. */}
        <button type="button" onClick={close}>
          Cancel
        </button>
        <button
          type="button"
          class="grave"
          onClick={() => {
            close();
            onYes();
          }}
        >
          {yes}
        </button>
      </div>
    </dialog>
  );
}

async function perform(action: PageAction): Promise<Answer> {
  try {
    const response = await fetch("actions", {
      method: "POST",
      headers: { "content-type": "application/json", "x-fleetingd-page": "1" },
      body: JSON.stringify(action),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    // The session has ended.
    if (response.status === 401) location.reload();
    return { text: (await response.text()).trim(), isProblem: !response.ok };
  } catch (error) {
    const isAway =
      error instanceof TypeError || (error instanceof DOMException && error.name === "TimeoutError");
    if (!isAway) throw error;
    return {
      text: "The daemon did not answer; whether it is done is seen here when it does.",
      isProblem: true,
    };
  }
}
