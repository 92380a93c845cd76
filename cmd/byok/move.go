package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
)

const moveUsage = `usage: byok move -store STORE -service NAME -tenant ID (-to ARN | -job ID) [flags]

Moves a tenant to another CMK: begins the job and works at it, or, with -job, goes on
with one, a full rotation as well. Every process of the platform that Runs works at
it, too. Nothing that was sealed is touched, and nobody notices.

An interrupt stops it, and it says how to go on. Exit status: 0 all data keys are under
the new CMK, 1 some could not be moved, and each is named, 2 it could not be done, 130
interrupted.

`

type move struct {
	work
	to, reason string
}

func parseMove(args []string, errs io.Writer) (*move, error) {
	m := &move{work: work{command: "move", begins: []string{"to", "reason"}}}
	f := flag.NewFlagSet("byok move", flag.ContinueOnError)
	m.work.flags = f
	m.platform.flags(f)
	f.StringVar(&m.to, "to", "", "the new CMK's `ARN`")
	f.StringVar(&m.job, "job", "", "go on with this job (`id`)")
	f.StringVar(&m.reason, "reason", "", "why, for the audit log")
	if err := parse(f, args, moveUsage, errs); err != nil {
		return nil, err
	}
	if err := m.complete(m.command); err != nil {
		return nil, err
	}
	switch {
	case f.NArg() != 0:
		return nil, fmt.Errorf("move: unexpected %q", f.Arg(0))
	case (m.to == "") == (m.job == ""):
		return nil, errors.New("move: give either -to or -job")
	}
	return m, m.onlyToBegin()
}

func runMove(ctx context.Context, args []string, out, errs io.Writer) (status int, err error) {
	m, err := parseMove(args, errs)
	if err != nil {
		return 0, err
	}
	d := newDisplay(out)
	k, done, err := m.keeperFor(ctx, d, errs)
	if err != nil {
		return 0, err
	}
	defer done()
	t := k.Tenant(m.Tenant)
	if m.job == "" {
		j, err := t.Move(ctx, awskms.Key(m.to), m.reason)
		if j.ID == "" {
			return 0, err
		}
		m.job = j.ID
		fmt.Fprintf(out, "begun: from %s to %s. Go on with it, here or elsewhere, by:\n  %s\n", j.From.ID, j.To.ID, m.again())
	}
	last, err := follow(ctx, t, m.job, d)
	d.end()
	switch {
	case isInterrupted(ctx, err) && !last.State.Ended():
		return m.interrupted(out), nil
	case err != nil:
		return 0, err
	case last.Type == byok.JobReseal:
		return 0, errors.New("move: that job is a re-sealing: byok reseal goes on with it")
	case last.State == byok.JobCancelled:
		return 0, byok.ErrJobCancelled
	}
	for _, id := range last.Unreadable {
		fmt.Fprintf(out, "damaged: data key %s\n", id)
	}
	if !last.State.Ended() {
		fmt.Fprintf(out, "it waits for %d damaged data keys: repair them, or leave them behind (Tenant.LeaveBehind). Then go on with:\n  %s\n", last.Failed, m.again())
		return exitBroken, nil
	}
	if last.Failed > 0 {
		fmt.Fprintf(out, "done, but for %d of %d data keys\n", last.Failed, last.Failed+last.Done)
		return exitBroken, nil
	}
	fmt.Fprintf(out, "done: %d data keys are under %s\n", last.Done, last.To.ID)
	return exitOK, nil
}

// follow works at a job until it has ended, waits for a person, or ctx is done. What else stops it is waited for, as by Keeper.Run.
func follow(ctx context.Context, t *byok.Tenant, job string, d *display) (last byok.Job, err error) {
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		for j, jerr := range t.RunJob(ctx, job) {
			if err = jerr; j.ID != "" {
				last = j
				d.show(j)
			}
			if err == nil {
				wait = time.Second
			}
		}
		switch {
		case err == nil && last.State.Ended():
			return last, nil
		case ctx.Err() != nil:
			return last, ctx.Err()
		case last.State == byok.JobPaused && last.Left == 0 && len(last.Unreadable) > 0:
			return last, nil
		case errors.Is(err, byok.ErrArgument) || errors.Is(err, byok.ErrJobNotFound) || errors.Is(err, byok.ErrClosed) || last.ID == "":
			return last, err
		}
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case <-time.After(wait):
		}
	}
}
