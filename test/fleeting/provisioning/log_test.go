package provisioning

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"gitlab.com/gitlab-org/fleeting/fleeting"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// What the plugin logs passes go-plugin's reader of hclog's JSON, as GitLab Runner has it: levels, messages and fields come
// out of it as they went in, and no secret does.
func TestLog(t *testing.T) {
	var written bytes.Buffer
	logger := hclog.New(&hclog.LoggerOptions{Name: "host", Level: hclog.Trace, Output: &written, JSONFormat: true})
	runner, err := fleeting.RunPlugin(pluginPath(t), pluginConfig(t), fleeting.WithPluginLogger(logger))
	if err != nil {
		t.Fatal(err)
	}
	defer runner.Kill()
	secrets, err := useOne(runner.InstanceGroup(), maxInstances(t))
	if err != nil {
		t.Fatal(err)
	}
	// Waits until all of its output has been read.
	runner.Kill()

	log := written.String()
	for _, secret := range append(secrets, configSecrets(t)...) {
		if strings.Contains(log, secret) {
			t.Errorf("a secret was logged:\n%s", log)
		}
	}
	levels := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(log), "\n") {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		message := entry["@message"].(string)
		// A line that is not understood is passed on as it is.
		if strings.HasPrefix(message, "{") {
			t.Errorf("not understood: %s", line)
		}
		levels[message] = entry["@level"].(string)
		if message == "the daemon accepted fewer instances than asked for" && entry["accepted"] != 0.0 {
			t.Errorf("accepted is not 0: %s", line)
		}
	}
	for message, level := range map[string]string{
		"attached to the fleetingd daemon":                   "info",
		"the daemon accepted fewer instances than asked for": "warn",
		"the plugin ends":                                    "debug",
	} {
		if levels[message] != level {
			t.Errorf("%q has the level %q:\n%s", message, levels[message], log)
		}
	}
}

// useOne answers the key of an instance that was there for a while, a line each.
func useOne(group provider.InstanceGroup, most int) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := group.Init(ctx, hclog.NewNullLogger(), provider.Settings{}); err != nil {
		return nil, err
	}
	if n, err := group.Increase(ctx, most); err != nil || n != most {
		return nil, fmt.Errorf("increased by %d, error: %v", n, err)
	}
	if n, err := group.Increase(ctx, 1); err != nil || n != 0 {
		return nil, fmt.Errorf("increased by %d where there is no room, error: %v", n, err)
	}
	ids, err := untilRunning(ctx, group, most)
	if err != nil {
		return nil, err
	}
	info, err := group.ConnectInfo(ctx, ids[0])
	if err != nil {
		return nil, err
	}
	if len(info.Key) == 0 {
		return nil, fmt.Errorf("%s has no key", ids[0])
	}
	_, err = group.Decrease(ctx, ids)
	return strings.Split(strings.TrimSpace(string(info.Key)), "\n"), err
}

func untilRunning(ctx context.Context, group provider.InstanceGroup, wanted int) ([]string, error) {
	for {
		ids := []string{}
		err := group.Update(ctx, func(id string, state provider.State) {
			if state == provider.StateRunning {
				ids = append(ids, id)
			}
		})
		if err != nil || len(ids) == wanted {
			return ids, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("only %v run", ids)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// configSecrets are what plugin_config has under names of secrets.
func configSecrets(t *testing.T) []string {
	t.Helper()
	config := map[string]any{}
	if err := json.Unmarshal(pluginConfig(t), &config); err != nil {
		t.Fatal(err)
	}
	secret, ok := config["password"].(string)
	if !ok {
		t.Fatal("FLEETING_TEST_CONFIG has no password that could be logged")
	}
	return []string{secret}
}
