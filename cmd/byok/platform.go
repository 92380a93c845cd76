package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	_ "github.com/jackc/pgx/v5/stdlib"       // "pgx"
	_ "github.com/ncruces/go-sqlite3/driver" // "sqlite3", without cgo

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/sqlstore"
)

// platform is what a Keeper of the platform is made of. It goes to the workers
// as JSON, and has no secret: credentials come from each process's own environment.
type platform struct {
	Store     string        `json:"store"`   // sqlite:PATH, or postgres://, without a password
	Service   string        `json:"service"` // first argument of byok.New
	Tenant    string        `json:"tenant"`
	MaxAge    time.Duration `json:"max_age"`
	Endpoint  string        `json:"kms_endpoint,omitempty"` // "" is AWS
	AccessKey string        `json:"access_key,omitempty"`   // with Endpoint: the platform's; any secret will do there

	log *slog.Logger // nil: slog.Default()
}

// keeper returns a Keeper of the platform, and what closes it and its database.
func (p *platform) keeper(ctx context.Context, o *byok.Observer) (_ *byok.Keeper, done func(), err error) {
	store, db, err := openStore(ctx, p.Store)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	keys, err := p.keyring(ctx)
	if err != nil {
		return nil, nil, err
	}
	k, err := byok.New(p.Service, keys, store, store, &byok.Options{MaxAge: p.MaxAge, Observer: o, Logger: p.log})
	if err != nil {
		return nil, nil, err
	}
	return k, func() { _ = k.Close(); _ = db.Close() }, nil
}

func (p *platform) keyring(ctx context.Context) (*awskms.Keyring, error) {
	if p.Endpoint != "" {
		return awskms.New(aws.Config{Credentials: anySecret(p.AccessKey)}, &awskms.Options{Endpoint: p.Endpoint})
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	return awskms.New(cfg, nil)
}

// anySecret are credentials for kmsfake, which takes any secret unless it was told one.
func anySecret(accessKey string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: "kmsfake takes any secret"}, nil
	})
}

// openStore opens the platform's Store.
func openStore(ctx context.Context, name string) (*sqlstore.Store, *sql.DB, error) {
	db, dialect, err := openDB("-store", name)
	if err != nil {
		return nil, nil, err
	}
	store, err := sqlstore.Open(ctx, db, dialect)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("-store %s: %w", name, err), db.Close())
	}
	return store, db, nil
}

// openDB opens a database that a flag names. A file must be there: a path that is
// mistyped would make a new and empty one.
func openDB(flag, name string) (*sql.DB, sqlstore.Dialect, error) {
	if strings.HasPrefix(name, "postgres://") || strings.HasPrefix(name, "postgresql://") {
		db, err := openPostgres(flag, name)
		return db, sqlstore.Postgres, err
	}
	kind, file, ok := strings.Cut(name, ":")
	if !ok || kind != "sqlite" || file == "" {
		return nil, 0, fmt.Errorf("%s must be sqlite:PATH or postgres://USER@HOST/DATABASE", flag)
	}
	if info, err := os.Stat(file); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", flag, err)
	} else if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: %s is no file", flag, file)
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, 0, err
	}
	// mode=rw: never make one. A process that holds the write lock makes others wait, not fail.
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: file, RawQuery: "mode=rw&_pragma=busy_timeout(10000)&_pragma=synchronous(full)"}
	db, err := sql.Open("sqlite3", dsn.String())
	if err != nil {
		return nil, 0, err
	}
	db.SetMaxOpenConns(8)
	return db, sqlstore.SQLite, nil
}

// openPostgres refuses a password in the name: other users of the machine see a command's arguments, and this command prints them.
func openPostgres(flag, name string) (*sql.DB, error) {
	u, err := url.Parse(name)
	if err != nil {
		return nil, fmt.Errorf("%s is no URL", flag) // whose error would show it
	}
	if _, has := u.User.Password(); has || u.Query().Has("password") {
		return nil, fmt.Errorf("%s: a password is seen by others there: put it into PGPASSWORD, or into ~/.pgpass", flag)
	}
	db, err := sql.Open("pgx", name)
	if err != nil {
		return nil, fmt.Errorf("%s: the URL is not understood", flag)
	}
	db.SetMaxOpenConns(8)
	return db, nil
}
