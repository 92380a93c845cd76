// Command byok is for who runs a platform that uses package byok.
//
//	byok drill revoke   shows that a tenant's stop is a stop
//	byok reseal         replaces the data keys of records, or seals those in clear
//	byok move           moves a tenant to another CMK
//	byok inspect        prints what the header of an envelope says
//
// and for their customers:
//
//	byok open-export    opens an export with the customer's own access to its key
//
// Its exit status is 0 if what was asked for was done, and 2 if not; a drill that
// found a broken promise has 1, and so has an export of which something does not open, or a
// job that had to leave something as it was. A job that was interrupted has 130.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/byok-go/byok"
)

// The exit statuses.
const (
	exitOK     = 0
	exitBroken = 1 // the drill failed: a promise was broken; or a part of the export does not open, or of a job could not be done
	exitFailed = 2 // it could not be done
	exitAgain  = 3 // KMS did not answer for a part of the export
)

const usage = `usage:
  byok drill revoke [flags]   show that a tenant's stop is a stop: blocks the tenant meanwhile
  byok reseal [flags]         replace the data keys of a tenant's records, or seal those in clear
  byok move [flags]           move a tenant to another CMK
  byok inspect [file]         print what the header of an envelope says (not authenticated)
  byok open-export FILE       open a tenant's export with its own access to its key, or say what is in it

-h behind one of them lists its flags.
`

func main() {
	onlyOurs()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// parse is flags.Parse. A mistake is told alone, since above the list of all flags nobody would see it.
func parse(flags *flag.FlagSet, args []string, usage string, errs io.Writer) error {
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(errs, usage)
		flags.SetOutput(errs)
		flags.PrintDefaults()
	case err != nil:
		err = fmt.Errorf("%s: %w; -h lists all flags", strings.TrimPrefix(flags.Name(), "byok "), err)
	}
	return err
}

func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	var err error
	switch {
	case len(args) >= 2 && args[0] == "drill" && args[1] == "revoke":
		var status int
		if status, err = drillRevoke(ctx, args[2:], in, out, errs); err == nil {
			return status
		}
	case len(args) >= 1 && args[0] == "reseal":
		var status int
		if status, err = runReseal(byok.WithActor(ctx, "byok reseal"), args[1:], out, errs); err == nil {
			return status
		}
	case len(args) >= 1 && args[0] == "move":
		var status int
		if status, err = runMove(byok.WithActor(ctx, "byok move"), args[1:], out, errs); err == nil {
			return status
		}
	case len(args) >= 1 && args[0] == "open-export":
		var status int
		if status, err = openExport(ctx, args[1:], in, out, errs); err == nil {
			return status
		}
	case len(args) == 1 && args[0] == workerCommand:
		err = drillWorker(ctx, in, out)
	case len(args) >= 1 && args[0] == "inspect":
		err = inspect(args[1:], in, out, errs)
	default:
		if len(args) > 0 && args[0] != "help" && !strings.HasPrefix(args[0], "-") {
			asked := args[:1]
			if args[0] == "drill" {
				asked = args[:min(len(args), 2)]
			}
			fmt.Fprintf(errs, "byok: there is no command %q\n", strings.Join(asked, " "))
		}
		fmt.Fprint(errs, usage)
		return exitFailed
	}
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(errs, "byok: interrupted")
	case !errors.Is(err, flag.ErrHelp): // which has printed its help
		fmt.Fprintln(errs, "byok:", strings.TrimPrefix(err.Error(), "byok: ")) // the library's errors say so themselves
	}
	return exitFailed
}
