// Package harden keeps a process's memory, which holds plaintext data keys while
// their leases last, out of core dumps and away from other processes of the same
// user.
//
// The library never calls it: whether a service may be debugged is for whoever
// runs it to say. Call [Process] first thing in main.
//
// It does not reach swap and hibernation images, which hold whatever was in
// memory: turn them off, or encrypt them. SECURITY.md says what else remains.
package harden

// Process makes this process leave no core dump, whatever the kernel's
// core_pattern is, and shuts out debuggers and readers of /proc/<pid>/mem that
// have no CAP_SYS_PTRACE. It returns nil only if both hold. It may be called more
// than once, from any goroutine.
//
// What it costs: profilers and debuggers of the same user cannot attach, and
// /proc/self belongs to root, so that a process which is not root cannot open some
// of its own files there. A program that this one executes may be attached to
// again, but keeps the limit and so leaves no core file. There is no way back.
//
// On anything but Linux it changes nothing, and its error is
// [errors.ErrUnsupported].
func Process() error { return process() }
