// Package taskscaler runs jobs as GitLab Runner's autoscaler does: the real scaler, a warm instance, each used once.
//
//	FLEETING_TEST_PLUGIN         path of the plugin's executable
//	FLEETING_TEST_CONFIG         its plugin_config as JSON; null if not set
//	FLEETING_TEST_MAX            most instances at a time, 3 if not set
//	FLEETING_TEST_READY_COMMAND  instance_ready_command; none if not set
//	FLEETING_TEST_TASKS          how many tasks, 3 if not set
//	FLEETING_TEST_HALFWAY        a shell command; if it is set, tasks take some seconds and run side by side, and it is
//	                             run when half of them have begun
package taskscaler

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	"gitlab.com/gitlab-org/fleeting/fleeting/connector"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"gitlab.com/gitlab-org/fleeting/taskscaler"
)

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
		taskscaler.WithMaxInstances(number(t, "FLEETING_TEST_MAX", 3)),
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
	for _, id := range runTasks(ctx, t, scaler) {
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

// runTasks answers the instances that they ran on.
func runTasks(ctx context.Context, t *testing.T, scaler taskscaler.Taskscaler) []string {
	t.Helper()
	tasks := number(t, "FLEETING_TEST_TASKS", 3)
	halfway := os.Getenv("FLEETING_TEST_HALFWAY")
	sideBySide, command := 1, "echo 'hello world'"
	if halfway != "" {
		sideBySide, command = tasks, "sleep 3; echo 'hello world'"
	}
	begun := make(chan struct{}, tasks)
	ids := make([]string, tasks)
	results := make(chan error, tasks)
	places := make(chan struct{}, sideBySide)
	if halfway != "" {
		hook := make(chan error, 1)
		go func() {
			for n := 0; n < (tasks+1)/2; n++ {
				<-begun
			}
			hook <- exec.CommandContext(ctx, "/bin/sh", "-c", halfway).Run()
		}()
		defer func() {
			if err := <-hook; err != nil {
				t.Errorf("halfway: %v", err)
			}
		}()
	}
	for n := range tasks {
		places <- struct{}{}
		go func() {
			defer func() { <-places }()
			var err error
			ids[n], err = runTask(ctx, scaler, fmt.Sprintf("task-%d", n+1), command, begun)
			results <- err
		}()
	}
	for range tasks {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d tasks ran on %v", tasks, ids)
	return ids
}

func runTask(
	ctx context.Context, scaler taskscaler.Taskscaler, key, command string, begun chan<- struct{},
) (string, error) {
	acquisition, err := scaler.Acquire(ctx, key)
	if err != nil {
		return "", fmt.Errorf("%s: no instance: %w", key, err)
	}
	defer scaler.Release(key)
	info, err := acquisition.InstanceConnectInfo(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: no connection: %w", key, err)
	}
	begun <- struct{}{}
	output, err := run(ctx, info, command)
	if err != nil {
		return "", fmt.Errorf("%s on %s: %w", key, acquisition.InstanceID(), err)
	}
	if strings.TrimSpace(output) != "hello world" {
		return "", fmt.Errorf("%s on %s answered %q", key, acquisition.InstanceID(), output)
	}
	acquisition.HealthSuccess()
	return acquisition.InstanceID(), nil
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

// number is an environment variable's, or the fallback.
func number(t *testing.T, name string, fallback int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s must be a positive number: %s", name, text)
	}
	return n
}
