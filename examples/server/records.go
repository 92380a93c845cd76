package main

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byokhttp"
)

// The data API: the platform's own product, reduced to named blobs. Everything
// that is particular to byok is in seal and open.

// The scopes of the data API; byokhttp has those of the control plane.
const (
	scopeRead  = "records:read"
	scopeWrite = "records:write"
)

// maxRecord is the largest record. Records are sealed in one piece, in memory.
const maxRecord = 10 << 20

// purpose goes to KMS and into CloudTrail, in clear: a class of data.
const purpose = "records"

const recordsTable = `CREATE TABLE IF NOT EXISTS records (
	organization TEXT NOT NULL,
	collection   TEXT NOT NULL,
	id           TEXT NOT NULL,
	sealed       BLOB NOT NULL,
	PRIMARY KEY (organization, collection, id)
) STRICT`

type records struct {
	db     *sql.DB
	keeper *byok.Keeper
	auth   byokhttp.Authenticator
}

const recordsPath = "/api/v1/records/{collection}/{id}"

func (s *records) mount(mux *http.ServeMux) {
	mux.HandleFunc("PUT "+recordsPath, s.handle(scopeWrite, s.put))
	mux.HandleFunc("GET "+recordsPath, s.handle(scopeRead, s.get))
	mux.HandleFunc("DELETE "+recordsPath, s.handle(scopeWrite, s.delete))
	mux.HandleFunc(recordsPath, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", "DELETE, GET, HEAD, PUT")
		byokhttp.Error(w, r, &byokhttp.Problem{Status: http.StatusMethodNotAllowed, Code: "BYOK_014", Detail: "The endpoint does not have this method."})
	})
}

// name is which record: the organization comes from the token only.
type name struct{ organization, collection, id string }

// part keeps names away from paths, logs and look-alikes.
var part = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// errNoRecord also answers for what only another organization has: the same body.
var errNoRecord = &byokhttp.Problem{Status: http.StatusNotFound, Code: "RECORD_NOT_FOUND", Title: "No such record", Detail: "The organization has no record with this collection and id."}

var errTooLarge = &byokhttp.Problem{Status: http.StatusRequestEntityTooLarge, Code: "BYOK_014", Detail: "A record is at most 10 MiB."}

// handle authenticates, and answers errors.
func (s *records) handle(scope string, f func(http.ResponseWriter, *http.Request, name) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := func() error {
			id, err := s.auth.Authenticate(r)
			if err != nil {
				return err
			}
			if err := id.Require(scope); err != nil {
				return err
			}
			n := name{id.Tenant, r.PathValue("collection"), r.PathValue("id")}
			if !part.MatchString(n.collection) || !part.MatchString(n.id) {
				return errNoRecord
			}
			return f(w, r.WithContext(byok.WithActor(r.Context(), id.Actor)), n)
		}()
		if err == nil {
			return
		}
		if byokhttp.ProblemOf(err).Status >= 500 { // the client is told nothing of err
			slog.ErrorContext(r.Context(), "records: request failed", append([]any{"method", r.Method, "error", err}, cause(err)...)...)
		}
		byokhttp.Error(w, r, err)
	}
}

// cause is the KMS call that an error comes from, for the log; byokhttp logs its
// own in the same way. awskms promises that there are no secrets in it.
func cause(err error) []any {
	var ke *byok.KeyError
	if !errors.As(err, &ke) {
		return nil
	}
	group := []any{"op", ke.Op, "code", ke.Code, "class", ke.Class.String(), "request_id", ke.RequestID}
	if ke.Err != nil && (ke.Class == byok.ClassPlatform || ke.Class == byok.ClassOutage) { // KMS has not spoken
		group = append(group, "cause", ke.Err.Error())
	}
	return []any{slog.Group("kms", group...)}
}

func (s *records) put(w http.ResponseWriter, r *http.Request, n name) error {
	if r.ContentLength > maxRecord { // before anything is read
		return errTooLarge
	}
	plain, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRecord))
	if err != nil {
		if errors.As(err, new(*http.MaxBytesError)) {
			return errTooLarge
		}
		return &byokhttp.Problem{Status: http.StatusBadRequest, Code: "BYOK_014", Detail: "The body could not be read."}
	}
	sealed, err := s.seal(r.Context(), n, plain)
	if err != nil {
		return err
	}
	created, err := s.store(r.Context(), n, sealed)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	header(w, "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(map[string]any{"collection": n.collection, "id": n.id, "size": len(plain), "sealed_size": len(sealed)})
}

func (s *records) get(w http.ResponseWriter, r *http.Request, n name) error {
	var sealed []byte
	err := s.db.QueryRowContext(r.Context(), `SELECT sealed FROM records WHERE organization = ? AND collection = ? AND id = ?`,
		n.organization, n.collection, n.id).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return errNoRecord
	}
	if err != nil {
		return fmt.Errorf("%w: read: %w", byok.ErrStore, err)
	}
	plain, err := s.open(r.Context(), n, sealed)
	if err != nil {
		return err
	}
	header(w, "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(plain)))
	_, _ = w.Write(plain) // the client may be gone
	return nil
}

// delete needs no key: an organization that has revoked can still clean up.
func (s *records) delete(w http.ResponseWriter, r *http.Request, n name) error {
	res, err := s.db.ExecContext(r.Context(), `DELETE FROM records WHERE organization = ? AND collection = ? AND id = ?`, n.organization, n.collection, n.id)
	if err != nil {
		return fmt.Errorf("%w: delete: %w", byok.ErrStore, err)
	}
	if count, err := res.RowsAffected(); err != nil || count == 0 {
		return errNoRecord
	}
	header(w, "")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// seal and open are all that a platform adds to its reads and writes.
func (s *records) seal(ctx context.Context, n name, plain []byte) ([]byte, error) {
	return s.keeper.Seal(ctx, byok.Scope{Tenant: n.organization, Purpose: purpose}, plain, n.aad())
}

func (s *records) open(ctx context.Context, n name, sealed []byte) ([]byte, error) {
	return s.keeper.Open(ctx, byok.Scope{Tenant: n.organization, Purpose: purpose}, sealed, n.aad())
}

// aad binds a record to its place, so that a row copied over another does not
// open. Each part has its length in front: a/bc is not ab/c.
func (n name) aad() []byte {
	var b []byte
	for _, s := range []string{n.collection, n.id} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return b
}

// store is durable when it returns.
func (s *records) store(ctx context.Context, n name, sealed []byte) (created bool, err error) {
	fail := func(err error) (bool, error) { return false, fmt.Errorf("%w: write: %w", byok.ErrStore, err) }
	res, err := s.db.ExecContext(ctx, `UPDATE records SET sealed = ? WHERE organization = ? AND collection = ? AND id = ?`, sealed, n.organization, n.collection, n.id)
	if err != nil {
		return fail(err)
	}
	if count, err := res.RowsAffected(); err != nil || count > 0 {
		return false, err
	}
	_, err = s.db.ExecContext(ctx, `INSERT INTO records (organization, collection, id, sealed) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET sealed = excluded.sealed`, n.organization, n.collection, n.id, sealed)
	if err != nil {
		return fail(err)
	}
	return true, nil
}

func header(w http.ResponseWriter, kind string) {
	h := w.Header()
	if kind != "" {
		h.Set("Content-Type", kind)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Disposition", "attachment") // it is the customer's content, never a page of ours
}
