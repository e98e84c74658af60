//go:build !linux

package arena

// Owner keeps the memory alive and gives it a name that other processes of the same user can open.
type Owner struct{}

// Create makes an arena; here it never does.
func Create() (*Owner, error) { return nil, ErrUnsupported }

// Path is what Open takes.
func (*Owner) Path() string { return "" }

// Used is how much of the memory holds payloads now.
func (*Owner) Used() float64 { return 0 }

// Close takes the name away.
func (*Owner) Close() error { return nil }

// Open maps an arena that another process made; here it never does.
func Open(string) (*Arena, error) { return nil, ErrUnsupported }

// Close ends this view.
func (*Arena) Close() error { return nil }
