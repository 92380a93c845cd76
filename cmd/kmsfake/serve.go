package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/byok-go/byok/kmsfake"
)

const (
	deliverEvery = 5 * time.Second
	grace        = 3 * time.Second // for calls that are under way when it stops
)

// serve answers requests until ctx ends, and then those that are under way.
func serve(ctx context.Context, l net.Listener, fake *kmsfake.KMS, c *config, stderr io.Writer) error {
	// A call that hangs, by a fault, would keep Shutdown waiting: it ends with this.
	calls, hangUp := context.WithCancel(context.Background())
	defer hangUp()
	server := &http.Server{
		Handler:           fake.Handler(),
		BaseContext:       func(net.Listener) context.Context { return calls },
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute, // no limit on writing: answers can be slow on purpose
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()

	var delivery sync.WaitGroup
	stopped := make(chan struct{})
	if c.cloudtrail != "" {
		delivery.Go(func() { deliver(stopped, fake, c.cloudtrail, stderr) })
	}
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		patience, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		if err = server.Shutdown(patience); errors.Is(err, context.DeadlineExceeded) {
			hangUp()
			err = server.Close()
		}
	}
	close(stopped)
	delivery.Wait()
	return err
}

// deliver writes CloudTrail log files, the last of them once nobody calls any more.
func deliver(stopped <-chan struct{}, fake *kmsfake.KMS, dir string, stderr io.Writer) {
	tick := time.NewTicker(deliverEvery)
	defer tick.Stop()
	for last := false; !last; {
		select {
		case <-tick.C:
		case <-stopped:
			last = true
		}
		if _, err := fake.DeliverCloudTrail(dir); err != nil {
			fmt.Fprintln(stderr, "kmsfake: CloudTrail:", err)
		}
	}
}
