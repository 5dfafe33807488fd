// In front of a program of the host with the same name: it becomes that program, unless a file `faults/<name>` beside its
// folder says `fail` or `slow`. A shell's script could not hand on the name that it was started under.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	own, err := os.Executable()
	if err != nil {
		fail("faulty-program", err)
	}
	name, folder := filepath.Base(own), filepath.Dir(own)
	fault, _ := os.ReadFile(filepath.Join(filepath.Dir(folder), "faults", name))
	switch strings.TrimSpace(string(fault)) {
	case "fail":
		fail(name, fmt.Errorf("broken on purpose"))
	case "slow":
		time.Sleep(200 * time.Millisecond)
	}
	for _, directory := range filepath.SplitList(os.Getenv("PATH")) {
		if directory != folder {
			err = syscall.Exec(filepath.Join(directory, name), os.Args, os.Environ())
		}
	}
	fail(name, err)
}

func fail(name string, err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	os.Exit(1)
}
