/** The whole page. */
import { useEffect, useState } from "preact/hooks";
import { formatAge } from "../api/text.ts";
import type { Access } from "../web/messages.ts";
import { ActionButton } from "./action.tsx";
import { Events } from "./events.tsx";
import { Histogram } from "./histogram.tsx";
import { Images } from "./images.tsx";
import { InstanceDialog } from "./instance-dialog.tsx";
import { Instances } from "./instances.tsx";
import { Overview } from "./overview.tsx";
import { Pools } from "./pools.tsx";
import { Sources } from "./sources.tsx";
import { Starts } from "./starts.tsx";
import type { PageState } from "./state.ts";
import { clock } from "./time.ts";

interface AppProps {
  /** Undefined before the first picture. */
  state: PageState | undefined;
  access: Access;
  isUp: boolean;
}

export function App({ state, access, isUp }: AppProps) {
  const [chosen, choose] = useChosen();
  return (
    <>
      <a class="skip" href="#vms">
        Skip to the VMs
      </a>
      <Header state={state} access={access} isUp={isUp} />
      {state === undefined ? (
        <main>
          <p class="muted">{isUp ? "Asking the daemon …" : "The daemon does not answer; trying again …"}</p>
        </main>
      ) : (
        <main>
          <Overview state={state} />
          <Pools pools={state.pools} access={access} />
          <Instances state={state} onChoose={choose} />
          <div class="columns">
            <Starts state={state} onChoose={choose} />
            <Events events={state.events} onChoose={choose} />
            <Histogram
              title="Claims"
              what="from the claim of a VM until it is ready"
              distributions={state.distributions.claimWait}
            />
            <Histogram
              title="Boots"
              what="from the first step of a VM until it is ready"
              distributions={state.distributions.creation}
            />
            <Images state={state} />
            <Sources pools={state.pools} />
          </div>
          {chosen !== undefined && (
            <InstanceDialog
              key={chosen}
              id={chosen}
              state={state}
              access={access}
              onClose={() => choose("")}
            />
          )}
        </main>
      )}
      {state !== undefined && <Footer state={state} />}
    </>
  );
}

function Header({ state, access, isUp }: AppProps) {
  return (
    <header>
      <h1>
        <img src="page.svg" alt="" width="28" height="28" />
        fleetingd {state !== undefined && <span class="muted">on {state.daemon.host}</span>}
      </h1>
      <p class={isUp ? "link" : "link down"} role="status">
        {isUp
          ? "Live"
          : `No connection${state === undefined ? "" : `: this is how it was at ${clock(state.at)}`}`}
      </p>
      {access.actions && state !== undefined && <Drain pools={state.pools} />}
      {access.session && (
        <form method="post" action="logout">
          <button type="submit">Log out</button>
        </form>
      )}
    </header>
  );
}

function Drain({ pools }: Pick<PageState, "pools">) {
  if (pools.length > 0 && pools.every(({ draining }) => draining))
    return <ActionButton action={{ action: "undo-drain" }}>Make VMs again</ActionButton>;
  return (
    <ActionButton
      action={{ action: "drain" }}
      question="Drain this host? VMs that wait for a job are removed, and no more are made. Jobs that run go on."
    >
      Drain
    </ActionButton>
  );
}

function Footer({ state: { at, daemon } }: { state: PageState }) {
  const { connections } = daemon;
  return (
    <footer class="muted">
      <p>
        fleetingd {daemon.version}, process {daemon.pid}, up {formatAge((at - daemon.startedAt) / 1_000)} ·{" "}
        {daemon.hypervisor}
      </p>
      <p>VMs run {daemon.confinement}.</p>
      {connections !== null && (
        <p class={connections.isNearlyFull ? "problem" : undefined}>
          {connections.entries} of {connections.limit} connections are in use on this host.
        </p>
      )}
    </footer>
  );
}

/** The VM whose details are shown stands in the address, so that it can be passed on. */
function useChosen(): [string | undefined, (id: string) => void] {
  const read = (): string | undefined => /^#vm=([\w-]+)$/.exec(location.hash)?.[1];
  const [chosen, setChosen] = useState(read);
  useEffect(() => {
    const update = (): void => setChosen(read());
    addEventListener("hashchange", update);
    return () => removeEventListener("hashchange", update);
  }, []);
  const choose = (id: string): void => {
    history.pushState(null, "", id === "" ? location.pathname : `#vm=${id}`);
    setChosen(id === "" ? undefined : id);
  };
  return [chosen, choose];
}
