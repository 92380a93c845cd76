package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/drill"
)

// workerCommand is what this program calls itself as. It is not for people: it
// reads a workerConfig from standard input, writes samples to standard output,
// both as JSON lines, and ends when standard input does.
const workerCommand = "drill-worker"

type workerConfig struct {
	platform
	Worker int `json:"worker"`
}

// stopWithin is for a worker to finish what it is at and to close its Keeper.
const stopWithin = 25 * time.Second

// process returns a Worker that is a process of its own.
func process(self string, p *platform, errs io.Writer) drill.Worker {
	return func(ctx context.Context, n int, report func(drill.Sample)) error {
		config, err := json.Marshal(workerConfig{*p, n})
		if err != nil {
			return err
		}
		cmd := exec.Command(self, workerCommand)
		cmd.Stderr = errs
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		if _, err := in.Write(append(config, '\n')); err != nil {
			return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
		}
		over := make(chan struct{})
		defer close(over)
		go func() {
			select {
			case <-ctx.Done():
			case <-over:
				return
			}
			_ = in.Close()
			select {
			case <-time.After(stopWithin):
				_ = cmd.Process.Kill()
			case <-over:
			}
		}()
		var torn error
		for d := json.NewDecoder(out); ; {
			var s drill.Sample
			if torn = d.Decode(&s); torn != nil {
				break
			}
			report(s)
		}
		err = cmd.Wait()
		switch {
		case err == nil && errors.Is(torn, io.EOF):
			return nil // if ctx is not done, that is the drill's to complain about
		case err == nil:
			return fmt.Errorf("its output cannot be read: %w", torn)
		}
		return fmt.Errorf("its process: %w", err)
	}
}

// drillWorker is that process. An interrupt from the terminal goes to all of them,
// and the drill goes on until access is given back: so only the end of its
// input ends it.
func drillWorker(ctx context.Context, in io.Reader, out io.Writer) error {
	signal.Ignore(os.Interrupt)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	lines := bufio.NewReader(in)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%s: no configuration: it is started by byok drill", workerCommand)
	}
	var c workerConfig
	if err := json.Unmarshal(first, &c); err != nil {
		return fmt.Errorf("%s: its configuration: %w", workerCommand, err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		cancel()
	}()
	var mu sync.Mutex
	enc := json.NewEncoder(out)
	done := func() {}
	err = drill.InProcess(c.Tenant, func(o *byok.Observer) (k *byok.Keeper, err error) {
		k, done, err = c.keeper(ctx, o)
		return k, err
	})(ctx, c.Worker, func(s drill.Sample) {
		mu.Lock()
		defer mu.Unlock()
		if enc.Encode(s) != nil {
			cancel() // nobody reads any more
		}
	})
	if err == nil {
		done()
	}
	return err
}
