// Package provisioning runs the fleeting library's own conformance test against a plugin.
//
//	FLEETING_TEST_PLUGIN  path of the plugin's executable
//	FLEETING_TEST_CONFIG  its plugin_config as JSON; null if not set
//	FLEETING_TEST_MAX     most instances at a time, 3 if not set
package provisioning

import (
	"encoding/json"
	"os"
	"strconv"
	"testing"

	"gitlab.com/gitlab-org/fleeting/fleeting/integration"
)

func TestProvisioning(t *testing.T) {
	integration.TestProvisioning(t, pluginPath(t), integration.Config{
		PluginConfig: pluginConfig(t),
		MaxInstances: maxInstances(t),
	})
}

func pluginPath(t *testing.T) string {
	t.Helper()
	path := os.Getenv("FLEETING_TEST_PLUGIN")
	if path == "" {
		t.Fatal("FLEETING_TEST_PLUGIN must be the path of the plugin to test")
	}
	return path
}

func pluginConfig(t *testing.T) json.RawMessage {
	t.Helper()
	config := os.Getenv("FLEETING_TEST_CONFIG")
	if config == "" {
		return json.RawMessage("null")
	}
	if !json.Valid([]byte(config)) {
		t.Fatalf("FLEETING_TEST_CONFIG is not valid JSON: %s", config)
	}
	return json.RawMessage(config)
}

func maxInstances(t *testing.T) int {
	t.Helper()
	text := os.Getenv("FLEETING_TEST_MAX")
	if text == "" {
		return 3
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("FLEETING_TEST_MAX must be a positive number: %s", text)
	}
	return n
}
