//go:build unix

package main

import "syscall"

// onlyOurs makes every file that the process creates readable by its owner only.
// SQLite makes its -wal and -shm files by itself, and would make them 0644.
func onlyOurs() { syscall.Umask(0o077) }
