package main

import (
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const nic = "eth0"

// What a template's guest does when it is told, over SSH, to wait for the identity of a clone.
var waitForClone = func() {}

// serveJobs brings the guest's network up and serves SSH there, until it is told to wait for a clone: then it is all down again.
func (g *guest) serveJobs(identity map[string]string, onReachable func()) error {
	if err := configure(identity); err != nil {
		return err
	}
	if g.isMute {
		select {}
	}
	address, _, err := net.ParseCIDR(identity["address"])
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", net.JoinHostPort(address.String(), "22"))
	if err != nil {
		return err
	}
	waitForClone = func() { _ = listener.Close() }
	onReachable()
	if err := serveSSH(listener, identity, g.whileRunning); err != nil {
		return err
	}
	return takeDown()
}

// enterNetwork makes a namespace for this thread with a device that is wired to the TAP, where the machine is no real one.
func (g *guest) enterNetwork() error {
	if g.tap == nil {
		return nil
	}
	// This thread never leaves the namespace, so it ends with the goroutine.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0o644)
	inside, err := openTun(nic)
	if err != nil {
		return err
	}
	go forward(inside, g.tap)
	go forward(g.tap, inside)
	return nil
}

// configure gives the device its MAC, address and default route, by the same calls as ifconfig and route.
func configure(identity map[string]string) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	mac, err := net.ParseMAC(identity["mac"])
	if err != nil {
		return err
	}
	address, network, err := net.ParseCIDR(identity["address"])
	if err != nil {
		return err
	}
	hardware := ifreq{}
	copy(hardware.name[:], nic)
	hardware.data[0] = unix.ARPHRD_ETHER
	copy(hardware.data[2:], mac)
	if err := ioctl(socket, unix.SIOCSIFHWADDR, unsafe.Pointer(&hardware)); err != nil {
		return err
	}
	for _, setting := range []struct {
		request uint
		value   net.IP
	}{{unix.SIOCSIFADDR, address}, {unix.SIOCSIFNETMASK, net.IP(network.Mask)}} {
		if err := setAddress(socket, setting.request, setting.value); err != nil {
			return err
		}
	}
	for _, name := range []string{"lo", nic} {
		if err := setFlags(socket, name, unix.IFF_UP|unix.IFF_RUNNING); err != nil {
			return err
		}
	}
	return addDefaultRoute(socket, identity["gateway"])
}

// takeDown takes the address away, and routes with it: a clone must not have the template's for a moment.
func takeDown() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	if err := setAddress(socket, unix.SIOCSIFADDR, net.IPv4zero); err != nil {
		return err
	}
	return setFlags(socket, nic, 0)
}

func setAddress(socket int, request uint, value net.IP) error {
	address := ifreq{}
	copy(address.name[:], nic)
	putAddress(address.data[:], value)
	return ioctl(socket, request, unsafe.Pointer(&address))
}

func setFlags(socket int, name string, flags uint16) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(flags)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}

// ifreq and rtentry are the kernel's own structures.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data [24]byte
}

type rtentry struct {
	_           uint64
	destination [16]byte
	gateway     [16]byte
	mask        [16]byte
	flags       uint16
	_           [118]byte
}

func addDefaultRoute(socket int, gateway string) error {
	const isUp, viaGateway = 1, 2
	route := rtentry{flags: isUp | viaGateway}
	any := net.IPv4zero
	putAddress(route.destination[:], any)
	putAddress(route.mask[:], any)
	putAddress(route.gateway[:], net.ParseIP(strings.TrimSpace(gateway)))
	return ioctl(socket, unix.SIOCADDRT, unsafe.Pointer(&route))
}

func putAddress(target []byte, address net.IP) {
	target[0] = unix.AF_INET
	copy(target[4:8], address.To4())
}

func ioctl(fd int, request uint, argument unsafe.Pointer) error {
	if _, _, number := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(argument)); number != 0 {
		return number
	}
	return nil
}

// forward is the cable between the host's device and the guest's: one frame a read.
func forward(from, to io.ReadWriter) {
	frame := make([]byte, 65536)
	for {
		size, err := from.Read(frame)
		if err != nil {
			return
		}
		// A device that is not up yet drops what comes, as a network does.
		_, _ = to.Write(frame[:size])
	}
}
