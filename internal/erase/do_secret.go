//go:build goexperiment.runtimesecret

package erase

import (
	"runtime"
	"runtime/secret"
)

// Enabled reports whether Do erases.
const Enabled = runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64")

// Do calls f, and has the runtime erase what f leaves behind.
func Do(f func()) { secret.Do(f) }
