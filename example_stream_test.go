package byok_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
)

// An upload of any length goes to a file as it comes, and is there when all of it is.
func ExampleKeeper_SealWriter() {
	keeper, dir := exampleKeeper(), must(os.MkdirTemp("", "byok"))
	defer keeper.Close()
	defer os.RemoveAll(dir)
	scope, aad := byok.Scope{Tenant: "acme", Purpose: "uploads"}, []byte("upload/42")

	upload := func(ctx context.Context, body io.Reader) error {
		f, err := os.Create(filepath.Join(dir, "42"))
		if err != nil {
			return err
		}
		defer f.Close()
		w, err := keeper.SealWriter(ctx, f, scope, aad)
		if err != nil {
			return err
		}
		defer w.Abort() // without Close: what is in the file never opens
		if _, err := io.Copy(w, body); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		return f.Sync()
	}
	fmt.Println(upload(context.Background(), strings.NewReader(strings.Repeat("0123456789", 100_000))))

	f := must(os.Open(filepath.Join(dir, "42")))
	defer f.Close()
	r := must(keeper.OpenReader(context.Background(), f, scope, aad))
	defer r.Close()
	n, err := io.Copy(io.Discard, r) // an error, nil included, says whether that was everything
	fmt.Println(n, err)
	// Output:
	// <nil>
	// 1000000 <nil>
}

// A browser that seeks in a film asks for ranges; only the segments that hold them are
// opened.
func ExampleKeeper_OpenReaderAt() {
	keeper, dir := exampleKeeper(), must(os.MkdirTemp("", "byok"))
	defer keeper.Close()
	defer os.RemoveAll(dir)
	ctx, scope, aad := context.Background(), byok.Scope{Tenant: "acme", Purpose: "films"}, []byte("film/7")
	plain, sealed := filepath.Join(dir, "plain"), filepath.Join(dir, "film")
	if err := os.WriteFile(plain, []byte(strings.Repeat("0123456789", 100_000)), 0o600); err != nil {
		panic(err)
	}
	if err := keeper.SealFile(ctx, sealed, plain, scope, aad); err != nil {
		panic(err)
	}

	handler := func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(sealed)
		if err != nil {
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		film, err := keeper.OpenReaderAt(r.Context(), f, info.Size(), scope, aad)
		if err != nil {
			http.Error(w, byok.Code(err), http.StatusForbidden) // byokhttp.Error does it better
			return
		}
		defer film.Close()
		http.ServeContent(w, r, "film.txt", time.Time{}, io.NewSectionReader(film, 0, film.Size()))
	}

	req := httptest.NewRequest("GET", "/film", nil)
	req.Header.Set("Range", "bytes=900000-900015")
	rec := httptest.NewRecorder()
	handler(rec, req)
	fmt.Println(rec.Code, rec.Header().Get("Content-Range"), rec.Body)
	// Output: 206 bytes 900000-900015/1000000 0123456789012345
}

// exampleKeeper has a tenant acme; see the first example.
func exampleKeeper() *byok.Keeper {
	ctx := context.Background()
	fake := kmsfake.New(nil)
	keys := must(awskms.NewFromClient(fake.Client(role), nil))
	keeper := must(byok.New("example-saas", keys, new(byok.MemStore), new(byok.MemAudit), nil))
	acme := keeper.Tenant("acme")
	cmk := fake.Account(account).CreateKey(awskms.KeyPolicy(account, role, acme.EncryptionContext()).JSON())
	must(acme.Register(ctx, byok.Registration{Key: awskms.Key(cmk.ARN())}))
	must(acme.AcknowledgeWaiver(ctx, byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}))
	return keeper
}
