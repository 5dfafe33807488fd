module gitlab.com/fleetingd/stand-in-vm

go 1.25.0

require (
	golang.org/x/crypto v0.48.0
	golang.org/x/sys v0.41.0
)
