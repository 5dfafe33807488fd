package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// progress is how far a template or a clone is, as the monitor tells it.
type progress struct {
	lock      sync.Mutex
	status    string
	migration string
	unplugged map[string]bool
}

func (g *guest) status() string {
	g.progress.lock.Lock()
	defer g.progress.lock.Unlock()
	if g.progress.status != "" {
		return g.progress.status
	}
	if g.vm.isIncoming {
		return "inmigrate"
	}
	return "running"
}

func (g *guest) setStatus(status string) {
	g.progress.lock.Lock()
	defer g.progress.lock.Unlock()
	g.progress.status = status
}

// whileRunning returns when the guest is not paused.
func (g *guest) whileRunning() {
	for g.status() == "paused" {
		time.Sleep(5 * time.Millisecond)
	}
}

func (g *guest) migrated(err error) {
	g.progress.lock.Lock()
	defer g.progress.lock.Unlock()
	g.progress.migration = `{"status": "completed"}`
	if err != nil {
		g.progress.migration = fmt.Sprintf(`{"status": "failed", "error-desc": %q}`, err.Error())
	}
}

func (g *guest) migration() string {
	g.progress.lock.Lock()
	defer g.progress.lock.Unlock()
	if g.progress.migration == "" {
		return "{}"
	}
	return g.progress.migration
}

// unplug says whether there was something to unplug.
func (g *guest) unplug(what string) bool {
	g.progress.lock.Lock()
	defer g.progress.lock.Unlock()
	if g.channel == nil || g.progress.unplugged[what] {
		return false
	}
	if g.progress.unplugged == nil {
		g.progress.unplugged = map[string]bool{}
	}
	g.progress.unplugged[what] = true
	if what == "chardev-remove" {
		_ = g.channel.Close()
	}
	return true
}

// memory is a file of a template's that its clones map.
type memory struct {
	path     string
	isShared bool
	mib      int
}

func parseMemory(value string, mib int) *memory {
	if !strings.HasPrefix(value, "memory-backend-file,") {
		return nil
	}
	found := &memory{mib: mib}
	for _, option := range strings.Split(value, ",") {
		key, text, _ := strings.Cut(option, "=")
		switch key {
		case "mem-path":
			found.path = text
		case "share":
			found.isShared = text == "on"
		}
	}
	return found
}

// open makes a template's file, and refuses a clone's if it is not what it is to be, as QEMU does.
func (m *memory) open() error {
	size := int64(m.mib) << 20
	if m.isShared {
		file, err := os.OpenFile(m.path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return fmt.Errorf("can't open backing store %s for guest RAM: %s", m.path, reason(err))
		}
		defer file.Close()
		return file.Truncate(size)
	}
	info, err := os.Stat(m.path)
	if err != nil {
		return fmt.Errorf("can't open backing store %s for guest RAM: %s", m.path, reason(err))
	}
	if info.Size() < size {
		return fmt.Errorf("backing store size 0x%x does not match 'size' option 0x%x", info.Size(), size)
	}
	return nil
}

// listenForHost makes the host's end of the guest's channel.
func listenForHost(path string) (net.Listener, error) {
	_ = os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	// QEMU leaves the file where it is.
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	return listener, nil
}

// sendState is a migration that leaves memory out: a few bytes.
func sendState(uri string) error {
	connection, err := net.Dial("unix", strings.TrimPrefix(uri, "unix:"))
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = io.WriteString(connection, state)
	return err
}

// receiveState calls done when it has read what sendState sends, from its standard input.
func receiveState(uri string, done func(error)) error {
	if uri != "fd:0" {
		return errors.New("unknown migration protocol: " + uri)
	}
	go func() {
		found, err := io.ReadAll(os.Stdin)
		if err == nil && string(found) != state {
			err = errors.New("not a migration stream")
		}
		done(err)
	}()
	return nil
}

const state = "the state of a stand-in's devices\n"
