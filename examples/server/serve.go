package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"
)

// drain is how long requests that are under way get after SIGTERM.
const drain = 10 * time.Second

// httpServer has all four timeouts: without any one of them a client that sends
// or reads slowly keeps a connection for ever (threats K8 to K10).
func httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       60 * time.Second, // a 10 MiB upload
		WriteTimeout:      90 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
}

// listeners are bound before anything else is done; connections wait until serve.
type listeners struct{ api, kms net.Listener } // kms is nil without a fake that listens

func listen(ctx context.Context, c *config) (l *listeners, err error) {
	l = new(listeners)
	if l.api, err = new(net.ListenConfig).Listen(ctx, "tcp", c.addr); err != nil {
		return nil, fmt.Errorf("-addr: %w", err)
	}
	if !c.ownFake() || c.kmsAddr == "off" {
		return l, nil
	}
	if l.kms, err = new(net.ListenConfig).Listen(ctx, "tcp", c.kmsAddr); err != nil {
		l.close()
		return nil, fmt.Errorf("-kms-addr: %w", err)
	}
	return l, nil
}

// close is harmless after the servers have closed them.
func (l *listeners) close() {
	_ = l.api.Close()
	if l.kms != nil {
		_ = l.kms.Close()
	}
}

// serve answers until ctx is done, then lets requests finish.
func (a *app) serve(ctx context.Context, l *listeners, out io.Writer) (err error) {
	failed := make(chan error, 2)
	start := func(s *http.Server, l net.Listener) {
		go func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		}()
	}
	kms := &http.Server{}
	kmsURL := a.config.kmsEndpoint
	if l.kms != nil {
		kms, kmsURL = httpServer(a.fake.Handler()), "http://"+l.kms.Addr().String()
		start(kms, l.kms)
	}
	api := httpServer(a.handler)
	start(api, l.api)
	a.banner(out, "http://"+l.api.Addr().String(), kmsURL)

	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	fmt.Fprintln(out, "stopping")
	// Without ctx, which is done. The KMS goes last: requests under way need it.
	dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	for _, s := range []*http.Server{api, kms} {
		if serr := s.Shutdown(dctx); serr != nil {
			err = errors.Join(err, serr, s.Close())
		}
	}
	return err
}

func logPanic(r *http.Request, v any) {
	slog.ErrorContext(r.Context(), "panic", "type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
}
