/** A pool that overflows from this host to VMware Cloud Director. */
import { after, before, describe } from "node:test";
import { needsNamespace } from "../helpers/namespace.ts";
import { failOnLeaks } from "../helpers/suite.ts";
import { instanceOf, startVcdSite, type VcdSite } from "../helpers/vcd/site.ts";
import { API_TOKEN, NAMES } from "../helpers/vcd/world.ts";
import { describeOverflow } from "./overflow.ts";

failOnLeaks();

describe("VMware Cloud Director behind this host", { skip: needsNamespace() }, () => {
  let site: VcdSite;

  before(async () => {
    site = await startVcdSite({ withGuests: true });
  });
  after(() => site.stop());

  describeOverflow({
    name: "VMware Cloud Director",
    machines: 2,
    source: () => ({
      type: "vcd",
      url: site.director.url,
      org: NAMES.org,
      token: API_TOKEN,
      virtual_datacenter: NAMES.vdc,
      network: NAMES.network,
      catalog: NAMES.catalog,
      template: NAMES.linux,
    }),
    env: () => ({ NODE_EXTRA_CA_CERTS: site.caCertificate }),
    there: () => site.director.world.vapps.flatMap((vapp) => instanceOf(vapp) ?? []),
    stopServer: () => site.director.stop(),
    startServer: () => site.director.start(),
  });
});
