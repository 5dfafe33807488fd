/** Which request means what. */
import { textOf, type XmlNode } from "../../../src/sources/vcd/xml.ts";
import type { Operations } from "./operations.ts";
import { forbidden } from "./refusal.ts";
import type { Renderer } from "./render.ts";
import { allVms, type Task, type VApp, type Vm, type World } from "./world.ts";

export interface Parts {
  world: World;
  renderer: Renderer;
  operations: Operations;
}

export interface Answer {
  status?: number;
  name: string;
  /** Undefined: nothing is said. */
  node: XmlNode | undefined;
}

interface Route {
  /** The element that is expected, and its media type. */
  element?: string;
  mime?: string;
  act(body: XmlNode): Answer;
}

/** What is at that path; undefined: nothing. @throws Refusal */
export function route(parts: Parts, method: string, pathname: string): Route | undefined {
  const path = pathname.slice("/api/".length).replace(/\/$/, "");
  const [kind = "", id = ""] = path.split("/");
  if (kind === "vApp") return entityRoute(parts, method, path);
  if (kind === "task") return taskRoute(parts, method, path, id);
  if (kind === "vdc" && id === parts.world.vdc.id) return vdcRoute(parts, method, path);
  return method === "GET" ? placeRoute(parts, path, kind, id) : undefined;
}

function placeRoute({ world, renderer }: Parts, path: string, kind: string, id: string): Route | undefined {
  const template = world.templates.find((it) => it.id === id || id === `vappTemplate-${it.id}`);
  const known: Readonly<Record<string, () => Answer>> = {
    org: () => ({ name: "OrgList", node: renderer.orgList() }),
    [`org/${world.org.id}`]: () => ({ name: "Org", node: renderer.org() }),
    [`network/${world.network.id}`]: () => ({ name: "OrgVdcNetwork", node: renderer.network() }),
    [`catalog/${world.catalog.id}`]: () => ({ name: "Catalog", node: renderer.catalog() }),
  };
  const act = known[path];
  if (act !== undefined) return { act };
  if (template === undefined) return undefined;
  if (kind === "catalogItem")
    return { act: () => ({ name: "CatalogItem", node: renderer.catalogItem(template) }) };
  if (kind === "vAppTemplate")
    return { act: () => ({ name: "VAppTemplate", node: renderer.template(template) }) };
  return undefined;
}

function vdcRoute({ world, renderer, operations }: Parts, method: string, path: string): Route | undefined {
  if (method === "GET" && path === `vdc/${world.vdc.id}`)
    return { act: () => ({ name: "Vdc", node: renderer.vdc() }) };
  if (method !== "POST" || !path.endsWith("/action/composeVApp")) return undefined;
  return {
    element: "ComposeVAppParams",
    mime: "composeVAppParams",
    act: (body) => {
      const { vapp } = operations.compose(body);
      return { status: 201, name: "VApp", node: renderer.vapp(vapp) };
    },
  };
}

function taskRoute({ world, renderer }: Parts, method: string, path: string, id: string): Route | undefined {
  const task = world.tasks.get(id);
  if (task === undefined) return undefined;
  if (method === "GET") return { act: () => ({ name: "Task", node: renderer.task(task) }) };
  if (method !== "POST" || !path.endsWith("/action/cancel")) return undefined;
  return {
    act: () => {
      task.cancel();
      return { name: "", node: undefined };
    },
  };
}

function entityRoute(
  { world, renderer, operations }: Parts,
  method: string,
  path: string,
): Route | undefined {
  const [, reference = "", ...rest] = path.split("/");
  const vapp = world.vapps.find(({ id }) => reference === `vapp-${id}`);
  const vm = allVms(world).find(({ id }) => reference === `vm-${id}`);
  const owner: VApp | Vm | undefined = vapp ?? vm;
  if (owner === undefined) throw forbidden();
  const begun = (task: Task): Answer => ({ status: 202, name: "Task", node: renderer.task(task) });
  const what = `${method} ${rest.join("/")}`;
  if (what.startsWith("PUT metadata/") && vapp !== undefined) {
    const name = decodeURIComponent(rest[1] ?? "");
    return {
      element: "MetadataValue",
      mime: "metadata.value",
      act: (body) => begun(operations.setMetadata(vapp, name, textOf(body, "TypedValue", "Value") ?? "")),
    };
  }
  const both: Readonly<Record<string, Route>> = {
    "DELETE ": { act: () => begun(operations.delete(owner)) },
    "POST power/action/powerOn": { act: () => begun(operations.powerOn(owner)) },
    "POST power/action/powerOff": { act: () => begun(operations.powerOff(owner)) },
    "POST action/undeploy": {
      element: "UndeployVAppParams",
      mime: "undeployVAppParams",
      act: (body) => begun(operations.undeploy(owner, body)),
    },
  };
  return (
    both[what] ??
    (vapp === undefined ? undefined : vappRoutes(vapp)[what]) ??
    (vm === undefined ? undefined : vmRoutes(vm)[what])
  );

  function vappRoutes(it: VApp): Readonly<Record<string, Route>> {
    return {
      "GET ": { act: () => ({ name: "VApp", node: renderer.vapp(it) }) },
      "POST action/recomposeVApp": {
        element: "RecomposeVAppParams",
        mime: "recomposeVAppParams",
        act: (body) => begun(operations.recompose(it, body)),
      },
      "GET networkConfigSection": {
        act: () => ({ name: "NetworkConfigSection", node: renderer.networks(it) }),
      },
      "PUT networkConfigSection": {
        element: "NetworkConfigSection",
        mime: "networkConfigSection",
        act: (body) => begun(operations.setNetworks(it, body)),
      },
    };
  }

  function vmRoutes(it: Vm): Readonly<Record<string, Route>> {
    return {
      "GET ": { act: () => ({ name: "Vm", node: renderer.vm(it) }) },
      "GET guestCustomizationSection": {
        act: () => ({ name: "GuestCustomizationSection", node: renderer.customization(it) }),
      },
      "GET guestcustomizationstatus": {
        act: () => ({
          name: "GuestCustomizationStatusSection",
          node: { GuestCustStatus: it.customized === "complete" ? "GC_COMPLETE" : "GC_PENDING" },
        }),
      },
      "PUT guestCustomizationSection": {
        element: "GuestCustomizationSection",
        mime: "guestCustomizationSection",
        act: (body) => begun(operations.customize(it, body)),
      },
      "POST action/editTrustedPlatformModule": {
        element: "TrustedPlatformModule",
        mime: "TpmSection",
        act: (body) => begun(operations.setTpm(it, body)),
      },
      "POST action/reconfigureVm": {
        element: "Vm",
        mime: "vm",
        act: (body) => begun(operations.reconfigure(it, body)),
      },
    };
  }
}
