package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

type disk struct {
	Driver   string `json:"driver"`
	ReadOnly bool   `json:"read-only"`
	File     struct {
		Filename string `json:"filename"`
	} `json:"file"`
	option string
	open   *os.File
}

// machine is what the command line asks for.
type machine struct {
	machine     string
	consolePath string
	monitorPath string
	kernelPath  string
	commandLine string
	memoryMiB   int
	tapName     string
	disks       []*disk
	// Of a template or a clone.
	memory      *memory
	channelPath string
	isIncoming  bool
}

func parseArguments(arguments []string) (*machine, error) {
	vm := &machine{}
	for i := 0; i+1 < len(arguments); i++ {
		option, value := arguments[i], arguments[i+1]
		switch option {
		case "-nodefaults", "-no-user-config", "-S":
			continue
		case "-machine":
			vm.machine = value
		case "-m":
			vm.memoryMiB, _ = strconv.Atoi(strings.TrimSuffix(value, "M"))
		case "-kernel":
			vm.kernelPath = value
		case "-append":
			vm.commandLine = value
		case "-chardev":
			if _, path, found := strings.Cut(value, "path="); found && strings.HasPrefix(value, "file,id=console,") {
				vm.consolePath = strings.ReplaceAll(path, ",,", ",")
			}
			if _, path, found := strings.Cut(value, "path="); found && strings.HasPrefix(value, "socket,id=channel,") {
				vm.channelPath, _, _ = strings.Cut(path, ",")
			}
		case "-object":
			if found := parseMemory(value, vm.memoryMiB); found != nil {
				vm.memory = found
			}
		case "-incoming":
			vm.isIncoming = true
		case "-qmp":
			vm.monitorPath, _, _ = strings.Cut(strings.TrimPrefix(value, "unix:"), ",")
		case "-netdev":
			_, rest, _ := strings.Cut(value, "ifname=")
			vm.tapName, _, _ = strings.Cut(rest, ",")
		case "-blockdev":
			parsed := &disk{option: value}
			if err := json.Unmarshal([]byte(value), parsed); err != nil {
				return nil, err
			}
			vm.disks = append(vm.disks, parsed)
		}
		i++
	}
	if vm.memory != nil {
		vm.memory.mib = vm.memoryMiB
	}
	return vm, nil
}

func (vm *machine) check() error {
	if _, err := os.Stat(vm.kernelPath); err != nil {
		return fmt.Errorf("could not open kernel file '%s': %s", vm.kernelPath, reason(err))
	}
	total := unix.Sysinfo_t{}
	if err := unix.Sysinfo(&total); err == nil && uint64(vm.memoryMiB)<<20 > 1024*uint64(total.Totalram) {
		return errors.New("cannot set up guest memory 'pc.ram': Cannot allocate memory")
	}
	return nil
}

// openDisks opens and locks them as QEMU does: a disk that is written to is this process's alone.
func (vm *machine) openDisks() error {
	for _, one := range vm.disks {
		flags := os.O_RDWR
		if one.ReadOnly {
			flags = os.O_RDONLY
		}
		file, err := os.OpenFile(one.File.Filename, flags, 0)
		if err != nil {
			return fmt.Errorf("-blockdev %s: Could not open '%s': %s", one.option, one.File.Filename, reason(err))
		}
		one.open = file
		if !one.ReadOnly {
			lock := unix.Flock_t{Type: unix.F_WRLCK, Start: 100, Len: 1}
			if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
				return fmt.Errorf("-blockdev %s: Failed to get \"write\" lock", one.option)
			}
		}
		magic := make([]byte, 4)
		if _, err := file.ReadAt(magic, 0); one.Driver == "qcow2" && (err != nil || !bytes.Equal(magic, []byte("QFI\xfb"))) {
			return fmt.Errorf("-blockdev %s: Image is not in qcow2 format", one.option)
		}
	}
	return nil
}

// What a guest writes that can't have filled its disk is less, for the smallest disk.
const filledBytes = 64 << 20

// fillDisk writes so much that somebody may ask whether there is room.
func (vm *machine) fillDisk() error {
	for _, one := range vm.disks {
		if one.ReadOnly {
			continue
		}
		info, err := one.open.Stat()
		if err != nil {
			return err
		}
		return unix.Fallocate(int(one.open.Fd()), 0, info.Size(), filledBytes)
	}
	return nil
}

// openTap takes the device as QEMU does: only one process can have it.
func (vm *machine) openTap() (*os.File, error) {
	if vm.tapName == "" {
		return nil, nil
	}
	tap, err := openTun(vm.tapName)
	if err != nil {
		return nil, fmt.Errorf("-netdev tap: could not configure /dev/net/tun (%s): %s", vm.tapName, reason(err))
	}
	return tap, nil
}

func openTun(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func setName(name string) {
	text := append([]byte(name), 0)
	// The kernel shows it in /proc/<pid>/stat, whose readers must not stumble over it.
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&text[0])), 0, 0, 0)
}

// reason is the system's word alone, with a capital letter as in C.
func reason(err error) string {
	var number unix.Errno
	if !errors.As(err, &number) {
		return err.Error()
	}
	text := number.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}
