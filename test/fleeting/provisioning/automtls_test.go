package provisioning

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// connectionPlugin hands out the connection itself.
type connectionPlugin struct{ plugin.NetRPCUnsupportedPlugin }

func (connectionPlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }

func (connectionPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

// GitLab Runner does not use mutual TLS; other go-plugin hosts do.
func TestAutoMTLS(t *testing.T) {
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  0,
			MagicCookieKey:   "FLEETING_INSTANCE_GROUP_PLUGIN",
			MagicCookieValue: "4c6410b1-cb78-4962-8c76-ab936d0ea908",
		},
		VersionedPlugins: map[int]plugin.PluginSet{0: {"instancegroup": connectionPlugin{}}},
		Cmd:              exec.Command(pluginPath(t)),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
	})
	defer client.Kill()

	protocol, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	if err := protocol.Ping(); err != nil {
		t.Fatal(err)
	}
	raw, err := protocol.Dispense("instancegroup")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	connection := raw.(*grpc.ClientConn)
	if err := connection.Invoke(ctx, "/proto.InstanceGroup/Shutdown", &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		t.Fatal(err)
	}

	client.Kill()
	if !client.Exited() {
		t.Fatal("the plugin did not end when it was asked to")
	}
}
