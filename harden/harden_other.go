//go:build !linux

package harden

import (
	"errors"
	"fmt"
	"runtime"
)

func process() error {
	return fmt.Errorf("harden: %w on %s: core dumps and debuggers are not kept out", errors.ErrUnsupported, runtime.GOOS)
}
