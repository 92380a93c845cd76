package sqlstore

import (
	"database/sql"
	"testing"

	"github.com/byok-go/byok"
	_ "github.com/ncruces/go-sqlite3/driver"
)

func TestSmoke(t *testing.T) {
	db, err := sql.Open("sqlite3", "file:"+t.TempDir()+"/x.db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := Open(t.Context(), db, SQLite)
	if err != nil {
		t.Fatal(err)
	}
	r := byok.Ref{Partition: "p", ID: "i"}
	if err := s.Apply(t.Context(), byok.Item{Ref: r, Value: []byte("x")}, byok.Item{Ref: byok.Ref{"p", "j"}, Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	t.Log(s.Get(t.Context(), r))
	t.Log(s.Apply(t.Context(), byok.Item{Ref: r, Value: []byte("x")}))
	t.Log(s.Record(t.Context(), byok.Event{ID: "a"}), s.Record(t.Context(), byok.Event{ID: "b"}))
	t.Log(s.List(t.Context(), "p", "i", 10))
	t.Log(s.Events(t.Context(), "", byok.AuditQuery{}))
}
