package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// isFull says that this guest's disk has no room.
var isFull bool

// isStuck says that this guest's system never comes up beyond its logins.
var isStuck bool

// serveSSH logs in the identity's user with the identity's keys, until the listener is closed and the last login has ended. Commands run
// in this machine's shell, on the host's side of the network: a test gives only harmless ones.
func serveSSH(listener net.Listener, identity map[string]string, whileRunning func()) error {
	host, err := ssh.ParsePrivateKey(decoded(identity, "host_key_base64"))
	if err != nil {
		return err
	}
	allowed := map[string]bool{}
	for rest := decoded(identity, "authorized_keys_base64"); len(bytes.TrimSpace(rest)) > 0; {
		var key ssh.PublicKey
		if key, _, _, rest, err = ssh.ParseAuthorizedKey(rest); err != nil {
			return err
		}
		allowed[string(key.Marshal())] = true
	}
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if meta.User() == identity["user"] && allowed[string(key.Marshal())] {
				return nil, nil
			}
			return nil, errors.New("nobody we know")
		},
	}
	config.AddHostKey(host)
	logins := sync.WaitGroup{}
	for {
		connection, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			logins.Wait()
			return nil
		}
		if err != nil {
			return err
		}
		logins.Go(func() {
			whileRunning()
			serveConnection(connection, config, identity["hostname"])
		})
	}
}

func serveConnection(connection net.Conn, config *ssh.ServerConfig, hostname string) {
	defer connection.Close()
	_, channels, requests, err := ssh.NewServerConn(connection, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for fresh := range channels {
		if fresh.ChannelType() != "session" {
			_ = fresh.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := fresh.Accept()
		if err != nil {
			return
		}
		go serveSession(channel, requests, hostname)
	}
}

func serveSession(channel ssh.Channel, requests <-chan *ssh.Request, hostname string) {
	defer channel.Close()
	for request := range requests {
		if request.Type != "exec" || len(request.Payload) < 4 {
			_ = request.Reply(request.Type == "env", nil)
			continue
		}
		_ = request.Reply(true, nil)
		code := execute(string(request.Payload[4:]), channel, hostname)
		status := binary.BigEndian.AppendUint32(nil, uint32(code))
		_, _ = channel.SendRequest("exit-status", false, status)
		return
	}
}

func execute(command string, channel ssh.Channel, hostname string) int {
	if strings.HasPrefix(command, "/usr/lib/fleetingd/ready") {
		if isStuck {
			select {}
		}
		return 0
	}
	// It would set the host's.
	if strings.Contains(command, "date --set=") {
		return 0
	}
	switch command {
	case "cloud-init status --wait", "sudo -n /usr/lib/fleetingd/template settle":
		return 0
	case "sudo -n systemctl start fleetingd-template.service":
		waitForClone()
		return 0
	case "hostname":
		_, _ = io.WriteString(channel, hostname+"\n")
		return 0
	}
	shell := exec.Command("/bin/sh", "-c", command)
	if isFull {
		// A home without room for anything, of this command alone.
		shell.Args[2] = "mount --make-rprivate / && mount -t tmpfs -o size=64k full /tmp && " + command
		shell.Env = append(os.Environ(), "HOME=/tmp")
		shell.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	}
	shell.Stdout, shell.Stderr = channel, channel.Stderr()
	// A pipe of our own: Run would wait for the end of an input that a command need not read.
	input, err := shell.StdinPipe()
	if err != nil {
		return 255
	}
	go func() {
		_, _ = io.Copy(input, channel)
		_ = input.Close()
	}()
	err = shell.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return 255
	}
	return 0
}
