package arena

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Owner keeps the memory alive and gives it a name that other processes of the same user can open.
type Owner struct{ file *os.File }

// Create makes an arena whose slots are all free.
func Create() (*Owner, error) {
	fd, err := unix.MemfdCreate("drover-rows", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "drover-rows")
	if err := f.Truncate(total); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Owner{file: f}, nil
}

// Path is what Open takes; valid until Close. Only processes of this user may open it (proc(5): the link of a
// descriptor needs the right to trace the process).
func (o *Owner) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), o.file.Fd()) }

// Used is how much of the memory holds payloads now, 0 to 1.
func (o *Owner) Used() float64 {
	states := make([]byte, slots*stateStride)
	if _, err := o.file.ReadAt(states, 0); err != nil {
		return 0
	}
	n := 0
	for i := range slots {
		if binary.NativeEndian.Uint32(states[i*stateStride:]) == used {
			n++
		}
	}
	return float64(n) / slots
}

// Close takes the name away; views that are open stay usable.
func (o *Owner) Close() error { return o.file.Close() }

// Open maps an arena that another process made.
func Open(path string) (*Arena, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if s, err := f.Stat(); err != nil || s.Size() != total {
		return nil, errors.Join(fmt.Errorf("%s is not an arena of this version", path), err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, total, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return &Arena{mem: m}, nil
}

// Close ends this view. Nothing that came from it may be touched afterwards.
func (a *Arena) Close() error { return unix.Munmap(a.mem) }
