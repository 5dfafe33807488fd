/** The stream of pictures: as long as there is one, and again and again when there is none. */
import type { Access, PageMessage } from "../web/messages.ts";

export interface Listener {
  onAccess(access: Access): void;
  onMessage(message: PageMessage): void;
  /** Whether messages come at the moment. */
  onLink(isUp: boolean): void;
}

const RETRY_MS = 3_000;

export function connect(listener: Listener): void {
  const stream = new EventSource("live");
  stream.addEventListener("access", ({ data }: MessageEvent<string>) => {
    listener.onAccess(JSON.parse(data) as Access);
    listener.onLink(true);
  });
  stream.onmessage = ({ data }: MessageEvent<string>) => listener.onMessage(JSON.parse(data) as PageMessage);
  stream.onerror = () => {
    listener.onLink(false);
    // Otherwise the browser tries again by itself.
    if (stream.readyState !== EventSource.CLOSED) return;
    setTimeout(() => void retry(listener), RETRY_MS);
  };
}

/** A stream that was refused does not say why: a session may have ended, or there are too many viewers. */
async function retry(listener: Listener): Promise<void> {
  try {
    const { status } = await fetch("live", { method: "HEAD" });
    if (status === 401) return location.reload();
  } catch (error) {
    // The daemon is being restarted, or the way to it is broken: that is what is retried.
    if (!(error instanceof TypeError)) throw error;
  }
  connect(listener);
}
