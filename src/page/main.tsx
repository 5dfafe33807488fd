/** The web page: the daemon tells how it is, and this draws it. */
import { render } from "preact";
import type { Access } from "../web/messages.ts";
import { App } from "./app.tsx";
import { connect } from "./connection.ts";
import { nextState, type PageState } from "./state.ts";

const root = document.getElementById("page");
let state: PageState | undefined;
let access: Access = { consoles: false, actions: false, session: false };
let isUp = true;

function draw(): void {
  if (root !== null) render(<App state={state} access={access} isUp={isUp} />, root);
}

root?.replaceChildren();
draw();
connect({
  onAccess(next) {
    access = next;
  },
  onMessage(message) {
    state = nextState(state, message);
    draw();
  },
  onLink(next) {
    isUp = next;
    draw();
  },
});
