package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
)

type monitor struct {
	listener net.Listener
	path     string
}

type command struct {
	Execute   string `json:"execute"`
	Arguments struct {
		URI string `json:"uri"`
	} `json:"arguments"`
	ID json.RawMessage `json:"id"`
}

// listen serves one client at a time, as QEMU does: a second one is let in and hears nothing until the first has gone.
func listen(path string, guest *guest, quit func()) (*monitor, error) {
	// QEMU takes the place of a socket that is there already.
	_ = os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	seen := sync.OnceFunc(func() { close(guest.seen) })
	goOn := sync.OnceFunc(func() { close(guest.goOn) })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			serve(connection, guest, seen, goOn, quit)
		}
	}()
	return &monitor{listener: listener, path: path}, nil
}

// close removes the socket, too.
func (m *monitor) close() {
	_ = m.listener.Close()
}

func serve(connection net.Conn, guest *guest, seen, goOn, quit func()) {
	defer connection.Close()
	say := func(text string) { fmt.Fprintf(connection, "%s\r\n", text) }
	answer := func(id json.RawMessage, key, value string) {
		if id == nil {
			say(fmt.Sprintf(`{"%s": %s}`, key, value))
			return
		}
		say(fmt.Sprintf(`{"%s": %s, "id": %s}`, key, value, id))
	}
	say(`{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": "stand-in"}, "capabilities": ["oob"]}}`)
	refuse := func(id json.RawMessage, text string) {
		answer(id, "error", fmt.Sprintf(`{"class": "GenericError", "desc": %q}`, text))
	}
	negotiated := false
	for lines := bufio.NewScanner(connection); lines.Scan(); {
		asked := command{}
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			answer(nil, "error", `{"class": "GenericError", "desc": "Invalid JSON syntax"}`)
			continue
		}
		switch {
		case asked.Execute == "qmp_capabilities" && !negotiated:
			negotiated = true
			answer(asked.ID, "return", "{}")
		case negotiated && asked.Execute == "query-status":
			answer(asked.ID, "return", fmt.Sprintf(`{"status": %q, "singlestep": false, "running": %t}`, guest.status(), guest.status() == "running"))
			seen()
		case negotiated && asked.Execute == "stop":
			guest.setStatus("paused")
			answer(asked.ID, "return", "{}")
		case negotiated && asked.Execute == "cont":
			guest.setStatus("running")
			goOn()
			answer(asked.ID, "return", "{}")
		case negotiated && asked.Execute == "migrate-set-capabilities":
			answer(asked.ID, "return", "{}")
		case negotiated && asked.Execute == "migrate":
			answer(asked.ID, "return", "{}")
			guest.migrated(sendState(asked.Arguments.URI))
		case negotiated && asked.Execute == "migrate-incoming":
			if err := receiveState(asked.Arguments.URI, guest.migrated); err != nil {
				refuse(asked.ID, err.Error())
				continue
			}
			answer(asked.ID, "return", "{}")
		case negotiated && asked.Execute == "query-migrate":
			answer(asked.ID, "return", guest.migration())
		case negotiated && (asked.Execute == "device_del" || asked.Execute == "chardev-remove"):
			if !guest.unplug(asked.Execute) {
				refuse(asked.ID, "not found")
				continue
			}
			answer(asked.ID, "return", "{}")
		case negotiated && asked.Execute == "system_powerdown":
			answer(asked.ID, "return", "{}")
			guest.pressButton()
		case negotiated && asked.Execute == "quit":
			answer(asked.ID, "return", "{}")
			say(`{"timestamp": {"seconds": 0, "microseconds": 0}, "event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}`)
			quit()
		default:
			answer(asked.ID, "error", fmt.Sprintf(`{"class": "CommandNotFound", "desc": "The command %s has not been found"}`, asked.Execute))
		}
	}
}
