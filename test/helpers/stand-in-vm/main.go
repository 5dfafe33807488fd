// Stand-in for qemu-system-*: a process that behaves as fleetingd's driver knows QEMU, with a guest that is "up" within
// milliseconds. The guest is a network namespace of its own behind the VM's TAP: it has the MAC, the address and the
// keys of the seed disk and answers SSH, so that whatever holds for a VM's network and connections holds for it, too.
//
// Everything that it opens, locks or refuses, QEMU does: test/crash/stand-in-vm.test.ts asks both the same questions.
//
// As the first process of a real machine it is that guest alone (boot.go), so a small VM can be had for tests.
//
// A file `faults/hypervisor` beside the folder of the program makes new ones fail: `exit`, `hang`, `die`, `mute`, `stuck` or `full`.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	if os.Args[0] == "/init" {
		boot()
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("QEMU emulator version 7.2.0 (stand-in)")
		return
	}
	vm, err := parseArguments(os.Args[1:])
	if err != nil {
		fail(err)
	}
	if vm.machine == "help" {
		fmt.Println("Supported machines are:\npc-q35-7.2           Standard PC (stand-in)\nvirt-7.2             ARM Virtual Machine (stand-in)")
		return
	}
	fault := readFault()
	if fault == "exit" {
		fail(fmt.Errorf("broken on purpose"))
	}
	if err := run(vm, fault); err != nil {
		fail(err)
	}
}

func run(vm *machine, fault string) error {
	console, err := os.OpenFile(vm.consolePath, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if err := vm.check(); err != nil {
		return err
	}
	if err := vm.openDisks(); err != nil {
		return err
	}
	isStuck = fault == "stuck"
	if isFull = fault == "full"; isFull {
		if err := vm.fillDisk(); err != nil {
			return err
		}
	}
	tap, err := vm.openTap()
	if err != nil {
		return err
	}
	if vm.memory != nil {
		if err := vm.memory.open(); err != nil {
			return err
		}
	}
	setName("fleeting-vm")
	ended := make(chan int, 1)
	if fault == "hang" {
		// Not select: without anything else to do the runtime would call that a deadlock.
		time.Sleep(24 * time.Hour)
	}
	guest := &guest{
		vm: vm, console: console, tap: tap,
		powerOff: func() { ended <- 0 }, isMute: fault == "mute",
		seen: make(chan struct{}), goOn: make(chan struct{}),
	}
	if vm.channelPath != "" {
		if guest.channel, err = listenForHost(vm.channelPath); err != nil {
			return err
		}
		guest.openPort = func() (io.ReadWriteCloser, error) { return guest.channel.Accept() }
	}
	monitor, err := listen(vm.monitorPath, guest, func() { ended <- 0 })
	if err != nil {
		return err
	}
	if fault == "die" {
		time.AfterFunc(30*time.Millisecond, func() { ended <- 1 })
	}
	go guest.run()

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	code := 0
	select {
	case code = <-ended:
	case received := <-signals:
		fmt.Fprintf(os.Stderr, "%s: terminating on signal %d\n", os.Args[0], received)
	}
	monitor.close()
	os.Exit(code)
	return nil
}

func readFault() string {
	text, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(os.Args[0])), "faults", "hypervisor"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
	os.Exit(1)
}
