package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// serveChannel is a template's guest and then, for its memory goes on there, that of each of its clones. As in a real guest each turn
// opens the port anew, and what comes back from the second one's reading is a clone.
func (g *guest) serveChannel() error {
	if err := g.enterNetwork(); err != nil {
		return err
	}
	for greeting := ""; ; greeting = "waiting\n" {
		port, err := g.openPort()
		if err != nil {
			return err
		}
		if _, err := io.WriteString(port, greeting); err != nil {
			return err
		}
		identity, err := readIdentity(port)
		if err != nil {
			return err
		}
		onReachable := func() {
			_, _ = io.WriteString(port, "done\n")
			_ = port.Close()
		}
		if err := g.serveJobs(identity, onReachable); err != nil {
			return err
		}
	}
}

// readIdentity is what the host says who this guest is to be. While nobody is at the other end a read says that the file ends.
func readIdentity(port io.Reader) (map[string]string, error) {
	const untilNextRead = 5 * time.Millisecond
	text, part := []byte{}, make([]byte, 4096)
	for !bytes.HasSuffix(text, []byte("\nend\n")) {
		size, err := port.Read(part)
		text = append(text, part[:size]...)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if size == 0 {
			time.Sleep(untilNextRead)
		}
	}
	return parseIdentity(text), nil
}

// openVirtioPort opens a real machine's port, which its kernel finds a moment after it has the driver.
func openVirtioPort() (io.ReadWriteCloser, error) {
	const untilNextLook = 10 * time.Millisecond
	for deadline := time.Now().Add(longestBoot); time.Now().Before(deadline); time.Sleep(untilNextLook) {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if text, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(text)) == "fleetingd" {
				return os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(name))), os.O_RDWR, 0)
			}
		}
	}
	return nil, errors.New("found no channel to the host")
}
