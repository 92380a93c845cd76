package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/byok-go/byok"
)

// maxEnvelope bounds what is read; the header is at its beginning, and small.
const maxEnvelope = 256 << 20

const inspectUsage = `usage: byok inspect [file]

Prints what the header of an envelope says, from a file or else from standard input, in binary.
Nothing of it is authenticated: whoever wrote the bytes wrote whatever they say.
`

// inspect prints an envelope's header: without a key, and without any promise.
func inspect(args []string, in io.Reader, out, errs io.Writer) error {
	flags := flag.NewFlagSet("byok inspect", flag.ContinueOnError)
	if err := parse(flags, args, inspectUsage, errs); err != nil {
		return err
	}
	switch flags.NArg() {
	case 0:
	case 1:
		f, err := os.Open(flags.Arg(0))
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	default:
		return errors.New("inspect: one file at most")
	}
	sealed, err := io.ReadAll(io.LimitReader(in, maxEnvelope+1))
	if err != nil {
		return err
	}
	if len(sealed) > maxEnvelope {
		return fmt.Errorf("inspect: larger than %d MiB", maxEnvelope>>20)
	}
	h, err := byok.Inspect(sealed)
	if err != nil {
		return err
	}
	// Names are of printable characters only: the parser refuses others.
	fmt.Fprintf(out, "not authenticated: whoever wrote these bytes wrote whatever they say\n"+
		"version    %d\nsuite      %d\npolicy     %d\ndata key   %s\ntenant     %s\nbytes      %d\n",
		h.Version, h.Suite, h.Policy, h.DataKey, h.Tenant, len(sealed))
	if len(h.Recipients) == 0 {
		fmt.Fprintln(out, "recipients none: the wrapped data key is in the Store")
	}
	for _, r := range h.Recipients {
		fmt.Fprintf(out, "recipient  %s %s (%d wrapped bytes)\n", r.Key.Provider, r.Key.ID, len(r.Wrapped))
	}
	return nil
}
