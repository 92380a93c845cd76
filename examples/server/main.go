// Command server is byok's example platform: a small SaaS that keeps its
// customers' records sealed under their own keys.
//
// With no flag it is a demo that needs nothing but Go: an AWS KMS in memory
// beside it, two organizations, and everything under ./byok-data. README.md has
// a session to paste. With -kms aws and -tokens it runs on real AWS.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byokhttp"
	"github.com/byok-go/byok/harden"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			os.Exit(2)
		}
		slog.Error("server: " + err.Error())
		os.Exit(1)
	}
}

// config is what the flags say.
type config struct {
	addr        string
	kms         string // "fake" or "aws"
	kmsAddr     string // where the fake listens, or "off"
	kmsEndpoint string // another process's fake
	data        string
	tokens      string
	maxAge      time.Duration
	harden      bool // no core dumps, no debuggers
	unbound     bool // accept key policies that are not bound to one organization
	platformKey string

	limits byokhttp.Limits // of tests
}

// demo reports whether the demo's organizations and tokens are used.
func (c *config) demo() bool { return c.tokens == "" }

// ownFake reports whether this process runs the fake KMS.
func (c *config) ownFake() bool { return c.kms == "fake" && c.kmsEndpoint == "" }

func parse(args []string, out io.Writer) (*config, error) {
	var c config
	f := flag.NewFlagSet("server", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&c.addr, "addr", "127.0.0.1:8080", "listen address of the API")
	f.StringVar(&c.kms, "kms", "fake", `"fake": an AWS KMS in memory; "aws": real AWS, with the default credential chain`)
	f.StringVar(&c.kmsAddr, "kms-addr", "127.0.0.1:4599", `listen address of the fake KMS, for the aws command; "off": none`)
	f.StringVar(&c.kmsEndpoint, "kms-endpoint", "", "use the fake KMS of another server process, such as http://127.0.0.1:4599")
	f.StringVar(&c.data, "data", "byok-data", "directory of the database and the demo's files; servers may share it if one of them runs the fake and the others use it (-kms-endpoint)")
	f.StringVar(&c.tokens, "tokens", "", `JSON file with [{"token_sha256","organization_id","actor","scopes"}], instead of the demo's organizations;
scopes are of `+strings.Join(knownScopes, ", ")+`; without "scopes" all of them`)
	f.DurationVar(&c.maxAge, "max-age", 0, "revocation bound, 1s to 5m (default 5s with the fake, 60s with real AWS)")
	f.BoolVar(&c.unbound, "allow-unbound-policy", false, "accept CMKs whose key policy lets this server in for any organization, with a warning; otherwise they are refused (default true with the fake, false with real AWS)")
	f.StringVar(&c.platformKey, "platform-key", "", "ARN of a CMK of this platform's own, under which organizations that never registered one seal; by default they cannot")
	f.BoolVar(&c.harden, "harden", false, "leave no core dump, and keep debuggers of the same user out (Linux)")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case c.kms != "fake" && c.kms != "aws":
		return nil, errors.New(`-kms must be "fake" or "aws"`)
	case c.kms == "aws" && c.kmsEndpoint != "":
		return nil, errors.New("-kms-endpoint is for the fake")
	case c.kms == "aws" && c.demo():
		return nil, errors.New("-kms aws needs -tokens: the demo's organizations exist in the fake only")
	}
	if c.maxAge == 0 {
		if c.maxAge = byok.DefaultMaxAge; c.kms == "fake" {
			c.maxAge = 5 * time.Second // so that a revocation can be watched
		}
	}
	if !given["allow-unbound-policy"] {
		c.unbound = c.kms == "fake" // the short key policy of the README is one
	}
	return &c, nil
}

// run serves until ctx is done, and returns nil after a clean stop.
func run(ctx context.Context, args []string, out io.Writer) error {
	c, err := parse(args, out)
	if err != nil {
		return err
	}
	if c.harden {
		if err := harden.Process(); err != nil {
			return err // asked for, and not had
		}
	}
	onlyOurs() // before the first file
	l, err := listen(ctx, c)
	if err != nil {
		return err // "address already in use" leaves nothing behind
	}
	defer l.close()
	a, err := newApp(ctx, c)
	if err != nil {
		return err
	}
	defer a.close()
	return a.serve(ctx, l, out)
}
