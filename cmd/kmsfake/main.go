package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/byok-go/byok/kmsfake"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.As(err, new(*usageError)):
		fmt.Fprintln(os.Stderr, "kmsfake:", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "kmsfake:", err)
		os.Exit(1)
	}
}

// usageError is a command line that makes no sense: exit status 2, as flag's own.
type usageError struct{ error }

type config struct {
	addr, data, cloudtrail string
	controls, strict       bool
	allowRemote, verbose   bool
	propagation            time.Duration
	throttle               int
}

func parseFlags(args []string, stderr io.Writer) (*config, error) {
	c := new(config)
	fs := flag.NewFlagSet("kmsfake", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&c.addr, "addr", "127.0.0.1:4599", "`address` to listen on; port 0 is any free one")
	fs.StringVar(&c.data, "data", "", "keep keys and policies in `file`, in clear; without it they end with the process")
	fs.BoolVar(&c.controls, "controls", false, "serve /_kmsfake/: faults, clock, reset, access keys, the log; without credentials, to this machine only")
	fs.StringVar(&c.cloudtrail, "cloudtrail", "", "write CloudTrail log files below `directory`, every 5 seconds and at the end")
	fs.BoolVar(&c.strict, "strict-iam", false, "demand the caller's side of permissions, too, as AWS does")
	fs.DurationVar(&c.propagation, "propagation", 0, "`time` that changes of policies, states and grants take to arrive; in AWS seconds, at times minutes")
	fs.IntVar(&c.throttle, "throttle", 0, "quota of cryptographic `calls` a second for each account and Region; 0 is none, -1 AWS's")
	fs.BoolVar(&c.allowRemote, "allow-remote", false, "allow an address that other machines can reach: whoever does can use and delete every key")
	fs.BoolVar(&c.verbose, "v", false, "print each call, and of each that was denied the reason")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, &usageError{err}
	}
	switch {
	case fs.NArg() > 0:
		return nil, &usageError{fmt.Errorf("unexpected argument %q", fs.Arg(0))}
	case c.propagation < 0:
		return nil, &usageError{fmt.Errorf("-propagation is %v", c.propagation)}
	case c.throttle < kmsfake.AWSQuota:
		return nil, &usageError{fmt.Errorf("-throttle is %d", c.throttle)}
	}
	host, _, err := net.SplitHostPort(c.addr)
	if err != nil {
		return nil, &usageError{fmt.Errorf("-addr: %w", err)}
	}
	if !isLoopback(host) && !c.allowRemote {
		return nil, &usageError{fmt.Errorf("-addr %s can be reached by other machines, and this KMS gives its keys to whoever asks: use 127.0.0.1, or say -allow-remote", c.addr)}
	}
	return c, nil
}

// isLoopback: names other than localhost are not looked up, since what they mean
// can change until they are listened on.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// run is the command, until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	log := &callLog{w: stdout}
	opts := &kmsfake.Options{File: c.data, StrictIAM: c.strict, Controls: c.controls}
	if c.verbose {
		opts.OnCall = log.call
	}
	fake, err := kmsfake.Open(opts)
	if err != nil {
		return err
	}
	defer fake.Close()
	log.fake = fake
	fake.Propagation(c.propagation)
	fake.Throttle(c.throttle)
	l, err := net.Listen("tcp", c.addr)
	if err != nil {
		return err
	}
	greet(stdout, c, l.Addr())
	err = serve(ctx, l, fake, c, stderr)
	if err == nil {
		fmt.Fprintln(stdout, "kmsfake: stopped")
	}
	return err
}

// greet says what this is, and how to use it.
func greet(w io.Writer, c *config, addr net.Addr) {
	url := "http://" + addr.String()
	fmt.Fprintf(w, `kmsfake: an AWS KMS for tests. It protects nothing.
listening on %s

  export AWS_ACCESS_KEY_ID=111122223333 AWS_SECRET_ACCESS_KEY=of-no-importance AWS_DEFAULT_REGION=us-east-1
  aws --endpoint-url %s kms create-key

An access key id of 12 digits is the root of that account; any secret does.
`, url, url)
	if c.data == "" {
		fmt.Fprintln(w, "Keys end with this process (-data FILE keeps them).")
	} else {
		fmt.Fprintf(w, "Keys are kept in %s, in clear.\n", c.data)
	}
	if c.controls {
		fmt.Fprintf(w, "Controls: curl %s/_kmsfake/\n", url)
	}
	if c.cloudtrail != "" {
		fmt.Fprintf(w, "CloudTrail log files go below %s.\n", c.cloudtrail)
	}
	if c.allowRemote {
		fmt.Fprintln(w, "WARNING: with -allow-remote, whoever can reach this address can use and delete every key.")
	}
	fmt.Fprintln(w)
}
