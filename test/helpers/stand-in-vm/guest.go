package main

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// guest is what runs in the VM: one of three systems, told apart by the disks that it finds.
type guest struct {
	vm       *machine
	console  *os.File
	tap      *os.File
	powerOff func()
	// Its network comes up and says nothing.
	isMute bool
	// Closed when the hypervisor has said that it runs; nil in a real machine.
	seen chan struct{}
	// Of a template or a clone: the host's end of its channel (nil in a real machine), and what opens the guest's.
	channel  net.Listener
	openPort func() (io.ReadWriteCloser, error)
	// Closed when a clone may go on.
	goOn     chan struct{}
	progress progress
}

// A real guest takes seconds to come so far that it can power off.
const longestBoot = 10 * time.Second

// boots returns when somebody has seen the guest run.
func (g *guest) boots() {
	if g.seen == nil {
		return
	}
	select {
	case <-g.seen:
	case <-time.After(longestBoot):
	}
}

// The disk for a prebuild's report, by its file on the host and by its serial in the machine.
const (
	reportFile   = "report.raw"
	reportSerial = "fleetingd-report"
)

func (g *guest) run() {
	if g.vm.isIncoming {
		<-g.goOn
	}
	var err error
	if g.openPort != nil && !strings.Contains(g.vm.commandLine, "tiny.") {
		err = g.serveChannel()
	} else if identity := g.findIdentity(); identity != nil {
		if err = g.enterNetwork(); err == nil {
			err = g.serveJobs(identity, func() {})
		}
	} else if report := g.findReportDisk(); report != nil {
		err = g.prebuild(report)
	} else {
		g.boots()
		g.tiny()
	}
	if err != nil {
		g.say("the guest failed: " + err.Error())
	}
}

func (g *guest) say(line string) {
	fmt.Fprintf(g.console, "%s\r\n", line)
}

// tiny does what the guest of test/helpers/tiny-guest.ts does, as far as the hypervisor's contract goes.
func (g *guest) tiny() {
	g.say("tiny: cmdline=" + g.vm.commandLine)
	g.say("tiny: ready")
	if strings.Contains(g.vm.commandLine, "tiny.then=poweroff") {
		g.powerOff()
	}
}

func (g *guest) pressButton() {
	if strings.Contains(g.vm.commandLine, "tiny.button=ignore") {
		return
	}
	g.say("tiny: power button")
	g.powerOff()
}

// prebuild writes the report that a real one ends with, and powers off.
func (g *guest) prebuild(report *os.File) error {
	g.say("fleetingd-prebuild: pretending")
	g.boots()
	files := map[string]string{
		"version":                "1\n",
		"cloud-init/result.json": `{"v1": {"datasource": null, "errors": []}}`,
		"finish.code":            "0\n",
		// None: clones boot with the initrd of the base image, if it has one.
		"kernel/release":     "\n",
		"kernel/root-device": "/dev/vda1\n",
		"kernel/root-type":   "ext4\n",
		"kernel/missing":     "",
	}
	text := &bytes.Buffer{}
	archive := tar.NewWriter(text)
	for name, content := range files {
		header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.WriteString(archive, content); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	if _, err := report.WriteAt(text.Bytes(), 0); err != nil {
		return err
	}
	g.powerOff()
	return nil
}

func (g *guest) findReportDisk() *os.File {
	for _, one := range g.vm.disks {
		if filepath.Base(one.File.Filename) == reportFile {
			return one.open
		}
	}
	return nil
}

// findIdentity reads what the script of that name in a real guest reads. A file on an ISO 9660 disk is one piece.
func (g *guest) findIdentity() map[string]string {
	const start = "version=1\ninstance_id="
	for _, one := range g.vm.disks {
		if !one.ReadOnly {
			continue
		}
		content, err := io.ReadAll(one.open)
		at := bytes.Index(content, []byte(start))
		if err != nil || at < 0 {
			continue
		}
		text := content[at:]
		if end := bytes.IndexByte(text, 0); end >= 0 {
			text = text[:end]
		}
		return parseIdentity(text)
	}
	return nil
}

func parseIdentity(text []byte) map[string]string {
	values := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		if key, value, found := strings.Cut(line, "="); found {
			values[key] = value
		}
	}
	return values
}

func decoded(values map[string]string, key string) []byte {
	text, err := base64.StdEncoding.DecodeString(values[key])
	if err != nil {
		return nil
	}
	return text
}
