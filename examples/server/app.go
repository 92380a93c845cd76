package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"sync"

	_ "github.com/ncruces/go-sqlite3/driver" // "sqlite3", without cgo

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byokhttp"
	"github.com/byok-go/byok/kmsfake"
	"github.com/byok-go/byok/sqlstore"
)

// service is in the encryption context of every key: changing it would orphan
// all data.
const service = "byok-example"

// app is the platform: a database, a Keeper, and two APIs over them.
type app struct {
	config  *config
	handler http.Handler
	fake    *kmsfake.KMS // nil if this process does not run it
	demo    *demo        // nil without the demo's organizations
	known   []knownToken // of the -tokens file, or of the demo

	cloud  string // what -kms aws is going to use, for people; "" with the fake
	db     *sql.DB
	keeper *byok.Keeper
	stop   context.CancelFunc
	work   sync.WaitGroup
}

func newApp(ctx context.Context, c *config) (_ *app, err error) {
	a := &app{config: c}
	if !c.demo() { // before anything is created
		if a.known, err = readTokens(c.tokens); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(c.data, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if c.ownFake() { // first: it is what tells that a server is there already
		if a.fake, err = openFake(filepath.Join(c.data, "kms.json")); err != nil {
			return nil, err
		}
	}
	if a.db, err = openDB(ctx, filepath.Join(c.data, "byok.db")); err != nil {
		return nil, err
	}
	store, err := sqlstore.Open(ctx, a.db, sqlstore.SQLite)
	if err != nil {
		return nil, err
	}
	keys, err := a.keyring(ctx)
	if err != nil {
		return nil, err
	}
	var platform []byok.KeyID
	if c.platformKey != "" {
		platform = []byok.KeyID{awskms.Key(c.platformKey)}
	}
	a.keeper, err = byok.New(service, keys, store, store, &byok.Options{
		MaxAge: c.maxAge,
		// In the demo, so that the short key policy of the README is accepted, with
		// a warning. A platform tells its customers which policy to use (awskms.KeyPolicy),
		// and leaves this out.
		AllowUnboundPolicy: c.unbound,
		PlatformKeys:       platform,
		Observer:           &byok.Observer{StateChange: logStateChange},
	})
	if err != nil {
		return nil, err
	}
	if a.handler, err = a.routes(); err != nil {
		return nil, err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.stop = stop
	a.work.Go(func() { _ = a.keeper.Run(background) }) // ends with background, by design
	return a, nil
}

// logStateChange tells operators what a customer's key has come to: that access
// ended is the customer's decision, and no error of ours.
func logStateChange(old, now byok.KeyStatus) {
	attrs := []any{"key", now.Key.ID}
	if now.Reason != "" {
		attrs = append(attrs, "reason", now.Reason)
	}
	if old.Access != now.Access {
		slog.Info(fmt.Sprintf("access of %s: %s -> %s", now.Tenant, orNone(old.Access), orNone(now.Access)), attrs...)
	}
	if old.Status != now.Status {
		slog.Info(fmt.Sprintf("key of %s: %s -> %s", now.Tenant, orNone(old.Status), orNone(now.Status)), attrs...)
	}
}

func orNone[T ~string](s T) T {
	if s == "" {
		return "none"
	}
	return s
}

// openDB opens the file that all servers on this data share.
func openDB(ctx context.Context, file string) (*sql.DB, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	// A server that holds the write lock makes others wait, not fail.
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: file, RawQuery: "_pragma=busy_timeout(10000)&_pragma=synchronous(full)"}
	db, err := sql.Open("sqlite3", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(16)
	if _, err := db.ExecContext(ctx, recordsTable); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, err), db.Close())
	}
	return db, nil
}

// routes mounts the control plane (byokhttp) beside the platform's own data API,
// both behind one Authenticator.
func (a *app) routes() (http.Handler, error) {
	if a.config.demo() {
		d, err := loadDemo(a.config.data, a.fake, a.keeper)
		if err != nil {
			return nil, err
		}
		a.demo, a.known = d, d.tokens()
	}
	auth, err := byokhttp.LimitFailures(byokhttp.Bearer(newLookup(a.known)), a.config.limits.FailedAuth)
	if err != nil {
		return nil, err
	}
	api, err := byokhttp.New(a.keeper, auth, &byokhttp.Options{Limits: a.config.limits})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/api/v1/byok/", http.StripPrefix("/api/v1/byok", api))
	(&records{db: a.db, keeper: a.keeper, auth: auth}).mount(mux)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n")) // of the process; a tenant's key is at /api/v1/byok/health
	})
	unknown := func(w http.ResponseWriter, r *http.Request) { byokhttp.Error(w, r, errNoEndpoint) }
	mux.HandleFunc("/", unknown)
	mux.HandleFunc("/api/v1/byok", unknown) // which ServeMux would redirect
	return strict(mux), nil
}

var errNoEndpoint = &byokhttp.Problem{Status: http.StatusNotFound, Code: "BYOK_014", Detail: "There is no such endpoint."}

// strict answers paths that are not in their one plain spelling with 404, where
// ServeMux would redirect (threat K6), and panics with 500.
func strict(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawPath != "" || path.Clean(r.URL.Path) != r.URL.Path {
			byokhttp.Error(w, r, errNoEndpoint)
			return
		}
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				logPanic(r, v)
				byokhttp.Error(w, r, byok.ErrInternal)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// close ends the Keeper, which wipes its keys, before the database under it.
func (a *app) close() {
	if a.stop != nil {
		a.stop()
	}
	if a.keeper != nil {
		_ = a.keeper.Close() // always nil
	}
	a.work.Wait()
	if a.db != nil {
		_ = a.db.Close() // everything answered was durable before
	}
	if a.fake != nil {
		_ = a.fake.Close() // another server may have the file now
	}
}
