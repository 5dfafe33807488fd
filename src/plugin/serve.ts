/** The plugin while a host uses it: from the handshake to the end of its connection. */
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { InstanceGroupService } from "../gen/fleeting.ts";
import { GRPCBrokerService, GRPCControllerService, GRPCStdioService } from "../gen/goplugin.ts";
import { HealthService } from "../gen/health.ts";
import { closeServer, listenOnUnixSocket } from "../host/grpc.ts";
import type { Logger } from "../log.ts";
import { createGoPluginServices } from "./go-plugin-services.ts";
import { createInstanceGroup } from "./instance-group.ts";
import { watchLifetime } from "./lifetime.ts";
import { type HostRequest, handshakeLine } from "./protocol.ts";
import { prepareSocket } from "./socket.ts";

/**
 * Serves until the host no longer needs it.
 * @throws FleetingdError if the socket can't be made; nothing has been written to standard output then.
 */
export async function serve(request: HostRequest, logger: Logger): Promise<void> {
  const lifetime = watchLifetime(logger);
  const instanceGroup = createInstanceGroup(process.env, logger);
  const services = createGoPluginServices(lifetime);
  const server = new Server({
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
  });
  server.addService(InstanceGroupService, instanceGroup.service);
  server.addService(GRPCBrokerService, services.broker);
  server.addService(GRPCStdioService, services.stdio);
  server.addService(GRPCControllerService, services.controller);
  server.addService(HealthService, services.health);

  const socket = await prepareSocket(request);
  const identity = await proveIdentity(request.clientCertificate);
  await listenOnUnixSocket(server, socket.path, identity.credentials);
  await socket.open();
  process.stdout.write(handshakeLine(socket.path, identity.certificate));

  const reason = await lifetime.ended;
  logger.debug("the plugin ends", { reason });
  instanceGroup.close();
  services.endStreams();
  await closeServer(server);
}

async function proveIdentity(
  clientCertificate: string | undefined,
): Promise<{ credentials: ServerCredentials; certificate?: Buffer }> {
  if (clientCertificate === undefined) return { credentials: ServerCredentials.createInsecure() };
  // GitLab Runner does not ask for it, and need not wait for it.
  const { createSelfSignedCertificate } = await import("./certificate.ts");
  const own = await createSelfSignedCertificate();
  const pair = { private_key: Buffer.from(own.privateKeyPem), cert_chain: Buffer.from(own.certificatePem) };
  return {
    credentials: ServerCredentials.createSsl(Buffer.from(clientCertificate), [pair], true),
    certificate: own.der,
  };
}
