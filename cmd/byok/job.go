package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/byok-go/byok"
)

// exitInterrupted is what a shell makes of a program that an interrupt ended.
const exitInterrupted = 130

// platformFlags are the flags that every command about a tenant's data has.
func (p *platform) flags(flags *flag.FlagSet) {
	flags.StringVar(&p.Store, "store", "", "the platform's Store: sqlite:`PATH` or postgres://USER@HOST/DATABASE, with the password in PGPASSWORD or ~/.pgpass")
	flags.StringVar(&p.Service, "service", "", "the platform's `name`, the first argument of byok.New")
	flags.StringVar(&p.Tenant, "tenant", "", "the tenant's `id`")
	flags.DurationVar(&p.MaxAge, "max-age", byok.DefaultMaxAge, "MaxAge of the platform's Keepers")
	flags.StringVar(&p.Endpoint, "kms-endpoint", "", "`URL` of a kmsfake, such as http://127.0.0.1:4599; default: AWS")
	flags.StringVar(&p.AccessKey, "platform-access-key", "", "with -kms-endpoint: the platform's access key `id` there (default "+demoAccessKey+", as in examples/server)")
}

func (p *platform) complete(command string) error {
	switch {
	case p.Store == "" || p.Service == "" || p.Tenant == "":
		return fmt.Errorf("%s: -store, -service and -tenant are required; -h lists all flags", command)
	case p.Endpoint == "" && p.AccessKey != "":
		return fmt.Errorf("%s: -platform-access-key is for kmsfake, with -kms-endpoint", command)
	case p.Endpoint != "" && p.AccessKey == "":
		p.AccessKey = demoAccessKey
	}
	return nil
}

// work is a command that begins a job, or goes on with one.
type work struct {
	platform
	command string // "reseal"
	job     string // "": one is begun
	flags   *flag.FlagSet
	begins  []string // flags that are of beginning only
}

// again is the command that goes on with the job, to be pasted.
func (w *work) again() string {
	out := "byok " + w.command
	w.flags.Visit(func(f *flag.Flag) {
		if f.Name != "job" && !slices.Contains(w.begins, f.Name) {
			out += " -" + f.Name
			if b, ok := f.Value.(interface{ IsBoolFlag() bool }); !ok || !b.IsBoolFlag() {
				out += " " + shell(f.Value.String())
			}
		}
	})
	return out + " -job " + w.job
}

// shell quotes a word for a shell, if it has to be.
func shell(word string) string {
	plain := word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@%+,", r))
	})
	if plain {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// onlyToBegin refuses flags that say what has been said when the job was begun.
func (w *work) onlyToBegin() error {
	if w.job == "" {
		return nil
	}
	var bad []string
	w.flags.Visit(func(f *flag.Flag) {
		if slices.Contains(w.begins, f.Name) {
			bad = append(bad, "-"+f.Name)
		}
	})
	if len(bad) > 0 {
		return fmt.Errorf("%s: with -job, %s cannot be given: that was said when it was begun", w.command, strings.Join(bad, " and "))
	}
	return nil
}

// keeperFor returns a Keeper that Runs, and whose log goes above the display.
func (w *work) keeperFor(ctx context.Context, d *display, errs io.Writer) (*byok.Keeper, func(), error) {
	w.log = slog.New(&sparing{Handler: slog.NewTextHandler(logs{d, errs}, nil), last: map[string]time.Time{}})
	k, done, err := w.keeper(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() { defer close(ended); _ = k.Run(running) }()
	return k, func() { stop(); <-ended; done() }, nil
}

// sparing says the same thing once a minute at most: while a job waits, the line says so anyway, and each of its workers would.
type sparing struct {
	slog.Handler
	mu   sync.Mutex
	last map[string]time.Time
}

func (s *sparing) Handle(ctx context.Context, r slog.Record) error {
	s.mu.Lock()
	again := r.Time.Sub(s.last[r.Message]) < time.Minute
	if !again {
		s.last[r.Message] = r.Time
	}
	s.mu.Unlock()
	if again {
		return nil
	}
	return s.Handler.Handle(ctx, r)
}

// watch shows a job until stop is called, which shows it once more.
func watch(ctx context.Context, t *byok.Tenant, job string, d *display, every time.Duration) (stop func() (byok.Job, error)) {
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for tick := time.NewTicker(every); ; {
			if j, err := t.Job(ctx, job); err == nil {
				d.show(j)
			}
			select {
			case <-tick.C:
			case <-quit:
				tick.Stop()
				return
			}
		}
	}()
	return func() (byok.Job, error) {
		close(quit)
		<-gone
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		j, err := t.Job(last, job)
		if err == nil {
			d.show(j)
		}
		d.end()
		return j, err
	}
}

// interrupted says how to go on.
func (w *work) interrupted(out io.Writer) int {
	fmt.Fprintf(out, "interrupted; nothing that was done is lost. Go on with:\n  %s\n", w.again())
	return exitInterrupted
}

// isInterrupted reports whether err is only that somebody interrupted.
func isInterrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled) || errors.Is(err, ctx.Err()) || errors.Is(err, byok.ErrStore) || errors.Is(err, byok.ErrKeyUnavailable))
}
