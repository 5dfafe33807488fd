// Package taskscaler runs jobs as GitLab Runner's autoscaler does: the real scaler, a warm instance, each used once.
//
//	FLEETING_TEST_PLUGIN         path of the plugin's executable
//	FLEETING_TEST_CONFIG         its plugin_config as JSON; null if not set
//	FLEETING_TEST_MAX            most instances at a time, 3 if not set
//	FLEETING_TEST_READY_COMMAND  instance_ready_command; none if not set
package taskscaler

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	"gitlab.com/gitlab-org/fleeting/fleeting/connector"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"gitlab.com/gitlab-org/fleeting/taskscaler"
)

const tasks = 3

func TestTaskscaler(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if deadline, ok := t.Deadline(); ok {
		// Leaves time to delete what is there.
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-time.Minute))
		defer cancel()
	}

	runner, err := fleeting.RunPlugin(pluginPath(t), pluginConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	defer runner.Kill()

	// GitLab Runner gives the start one minute.
	initCtx, initCancel := context.WithTimeout(ctx, time.Minute)
	defer initCancel()
	scaler, err := taskscaler.New(initCtx, runner.InstanceGroup(),
		taskscaler.WithMaxInstances(maxInstances(t)),
		taskscaler.WithCapacityPerInstance(1),
		taskscaler.WithMaxUseCount(1),
		taskscaler.WithDeleteInstancesOnShutdown(),
		taskscaler.WithAcquireDelay(100*time.Millisecond),
		taskscaler.WithUpdateInterval(2*time.Second),
		taskscaler.WithUpdateIntervalWhenExpecting(time.Second),
		taskscaler.WithShutdownDeletionRetries(10),
		taskscaler.WithShutdownDeletionInterval(2*time.Second),
		taskscaler.WithInstanceUpFunc(func(_ taskscaler.Taskscaler, instance taskscaler.UpFuncInstance) error {
			command := os.Getenv("FLEETING_TEST_READY_COMMAND")
			if command == "" {
				return nil
			}
			_, err := run(ctx, instance.Info, command)
			return err
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := scaler.ConfigureSchedule(taskscaler.Schedule{IdleCount: 1, IdleTime: time.Hour}); err != nil {
		t.Fatal(err)
	}

	used := map[string]bool{}
	for n := 1; n <= tasks; n++ {
		id := runTask(ctx, t, scaler, fmt.Sprintf("task-%d", n))
		if used[id] {
			t.Errorf("instance %s was used twice", id)
		}
		used[id] = true
	}

	shutdownCtx, shutdownCancel := context.WithTimeout(context.Background(), time.Minute)
	defer shutdownCancel()
	scaler.Shutdown(shutdownCtx)
	requireNoInstances(shutdownCtx, t, runner.InstanceGroup())
}

func runTask(ctx context.Context, t *testing.T, scaler taskscaler.Taskscaler, key string) string {
	t.Helper()
	acquisition, err := scaler.Acquire(ctx, key)
	if err != nil {
		t.Fatalf("%s: no instance: %v", key, err)
	}
	defer scaler.Release(key)
	info, err := acquisition.InstanceConnectInfo(ctx)
	if err != nil {
		t.Fatalf("%s: no connection: %v", key, err)
	}
	output, err := run(ctx, info, "echo 'hello world'")
	if err != nil {
		t.Fatalf("%s on %s: %v", key, acquisition.InstanceID(), err)
	}
	if strings.TrimSpace(output) != "hello world" {
		t.Fatalf("%s on %s answered %q", key, acquisition.InstanceID(), output)
	}
	acquisition.HealthSuccess()
	t.Logf("%s ran on %s", key, acquisition.InstanceID())
	return acquisition.InstanceID()
}

func run(ctx context.Context, info provider.ConnectInfo, command string) (string, error) {
	stdout := new(bytes.Buffer)
	err := connector.Run(ctx, info, connector.ConnectorOptions{
		RunOptions: connector.RunOptions{Command: command, Stdout: stdout},
	})
	return stdout.String(), err
}

// requireNoInstances waits until the group has none. What was still being created when the scaler was shut down, the
// library leaves to the runner's next start, which deletes it; so do we.
func requireNoInstances(ctx context.Context, t *testing.T, group provider.InstanceGroup) {
	t.Helper()
	for {
		left := []string{}
		forgotten := []string{}
		err := group.Update(ctx, func(id string, state provider.State) {
			left = append(left, fmt.Sprintf("%s (%s)", id, state))
			if state == provider.StateRunning {
				forgotten = append(forgotten, id)
			}
		})
		if err == nil && len(forgotten) > 0 {
			_, err = group.Decrease(ctx, forgotten)
		}
		if err == nil && len(left) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("left after the shutdown: %v, error: %v", left, err)
		case <-time.After(time.Second):
		}
	}
}

func pluginPath(t *testing.T) string {
	t.Helper()
	path := os.Getenv("FLEETING_TEST_PLUGIN")
	if path == "" {
		t.Fatal("FLEETING_TEST_PLUGIN must be the path of the plugin to test")
	}
	return path
}

func pluginConfig(t *testing.T) []byte {
	t.Helper()
	config := os.Getenv("FLEETING_TEST_CONFIG")
	if config == "" {
		config = "null"
	}
	if !json.Valid([]byte(config)) {
		t.Fatalf("FLEETING_TEST_CONFIG is not valid JSON: %s", config)
	}
	return []byte(config)
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
