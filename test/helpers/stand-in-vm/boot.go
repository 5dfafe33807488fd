package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// boot is the same guest in a real machine: its first process, from an initrd that has a kernel's modules in /modules and
// their order in /modules/order. It never returns.
func boot() {
	err := bootGuest()
	fmt.Printf("the guest ended: %v\n", err)
	powerOff()
}

func bootGuest() error {
	for _, mount := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := unix.Mount(mount[0], mount[1], mount[0], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", mount[1], err)
		}
	}
	if err := os.Setenv("PATH", "/bin"); err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	disks, err := realDisks()
	if err != nil {
		return err
	}
	commandLine, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	vm := &machine{disks: disks, commandLine: string(commandLine)}
	guest := &guest{vm: vm, console: os.Stdout, powerOff: powerOff}
	if strings.Contains(vm.commandLine, "fleetingd.channel") {
		guest.openPort = openVirtioPort
	}
	guest.run()
	return nil
}

func loadModules() error {
	order, err := os.ReadFile("/modules/order")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(order)) {
		module, err := os.Open(filepath.Join("/modules", name))
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(module.Fd()), "", 0)
		_ = module.Close()
		if err != nil {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

// realDisks are those of the machine, under the names that a hypervisor's command line would give them.
func realDisks() ([]*disk, error) {
	folders, err := filepath.Glob("/sys/block/vd*")
	if err != nil {
		return nil, err
	}
	disks := []*disk{}
	for _, folder := range folders {
		readOnly, err := os.ReadFile(filepath.Join(folder, "ro"))
		if err != nil {
			return nil, err
		}
		serial, err := os.ReadFile(filepath.Join(folder, "serial"))
		if err != nil {
			return nil, err
		}
		one := &disk{ReadOnly: strings.TrimSpace(string(readOnly)) == "1"}
		if string(serial) == reportSerial {
			one.File.Filename = reportFile
		}
		flags := os.O_RDWR
		if one.ReadOnly {
			flags = os.O_RDONLY
		}
		if one.open, err = os.OpenFile(filepath.Join("/dev", filepath.Base(folder)), flags, 0); err != nil {
			return nil, err
		}
		disks = append(disks, one)
	}
	return disks, nil
}

func powerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
