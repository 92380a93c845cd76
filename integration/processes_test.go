package integration

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

const maxAge = 2 * time.Second

// read is one read of a record, as a client saw it.
type read struct {
	begun, ended time.Time
	status       int
	code         string
}

// readAllTheTime reads every 50 ms until stop is closed.
func readAllTheTime(url, token string, stop <-chan struct{}) (result func() ([]read, error)) {
	var reads []read
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		client := newClient()
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			r := read{begun: time.Now()}
			a, err := send(client, "GET", url, token, nil)
			if err != nil {
				failed = err
				return
			}
			r.ended, r.status, r.code = time.Now(), a.status, a.code()
			if r.status == 200 && len(a.body) == 0 {
				failed = fmt.Errorf("200 without a record")
				return
			}
			reads = append(reads, r)
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return func() ([]read, error) { <-done; return reads, failed }
}

// Two processes on one SQLite file. The CMK is disabled while both read: each
// serves nothing after the first denial that it saw, and neither serves anything
// that began MaxAge after the CMK was disabled. Enabled again, both go on by themselves.
func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	one := start(t, dir, onFreePorts("-max-age", maxAge.String())...)
	two := start(t, dir, "-addr", "127.0.0.1:0", "-kms-endpoint", one.kms, "-max-age", maxAge.String())
	acme := readDemo(t, dir+"/byok-data").Organizations[0]
	client := newClient()
	want(t, client, "POST", one.api+keysPath, acme.Token, []byte(`{"cmk_arn":"`+acme.CMKARN+`"}`), 201)
	want(t, client, "POST", one.api+ackPath, acme.Token, []byte(ackAll), 200)
	const first, second = "/api/v1/records/notes/1", "/api/v1/records/notes/2"
	want(t, client, "PUT", one.api+first, acme.Token, []byte("from one"), 201)
	want(t, client, "PUT", two.api+second, acme.Token, []byte("from two"), 201)
	for _, p := range []*process{one, two} {
		for path, text := range map[string]string{first: "from one", second: "from two"} {
			if a := want(t, client, "GET", p.api+path, acme.Token, nil, 200); string(a.body) != text {
				t.Fatalf("got %q, want %q", a.body, text)
			}
		}
	}

	stop := make(chan struct{})
	names := []string{"one, its own record", "one, the other's", "two, its own record", "two, the other's"}
	var readers []func() ([]read, error)
	for _, url := range []string{one.api + first, one.api + second, two.api + second, two.api + first} {
		readers = append(readers, readAllTheTime(url, acme.Token, stop))
	}
	time.Sleep(2 * maxAge) // leases are renewed meanwhile
	mustAWS(t, one.kms, acme.AccessKeyID, "disable-key", "--key-id", acme.CMKARN)
	disabled := time.Now()
	time.Sleep(maxAge + 3*time.Second)
	enabling := time.Now()
	mustAWS(t, one.kms, acme.AccessKeyID, "enable-key", "--key-id", acme.CMKARN)
	enabled := time.Now()
	// The denied keys were asked about at 1, 2, 4 s after a denial, so there is a
	// question within 8 s of the last; 30 s is the longest there can be.
	time.Sleep(10 * time.Second)
	close(stop)

	var all [][]read
	for i, r := range readers {
		reads, err := r()
		if err != nil {
			t.Fatalf("%s: %v", names[i], err)
		}
		all = append(all, reads)
	}
	for process := range 2 {
		// The first denial that the process returned, to whomever.
		var denied time.Time
		for _, reads := range all[2*process : 2*process+2] {
			for _, r := range reads {
				if r.status == 403 && (denied.IsZero() || r.ended.Before(denied)) {
					denied = r.ended
				}
			}
		}
		if denied.IsZero() {
			t.Fatalf("process %d never denied anything", process+1)
		}
		t.Logf("process %d: the first denial came %v after the CMK was disabled", process+1, denied.Sub(disabled).Round(time.Millisecond))
		for i, reads := range all[2*process : 2*process+2] {
			name := names[2*process+i]
			served, refused, again := 0, 0, time.Time{}
			for _, r := range reads {
				switch {
				case r.status == 403 && r.code == "BYOK_002":
					refused++
				case r.status != 200:
					t.Fatalf("%s: status %d %s", name, r.status, r.code)
				case r.ended.Before(enabling) && r.begun.After(denied):
					t.Errorf("%s: served %v after the first denial", name, r.begun.Sub(denied))
				case r.ended.Before(enabling) && r.begun.Sub(disabled) >= maxAge:
					t.Errorf("%s: served %v after the CMK was disabled", name, r.begun.Sub(disabled))
				case r.begun.After(enabling):
					if again.IsZero() {
						again = r.ended
					}
				default:
					served++
				}
			}
			if served < 20 || refused < 20 || again.IsZero() {
				t.Errorf("%s: %d reads served, %d refused, again: %v", name, served, refused, !again.IsZero())
				continue
			}
			last := reads[len(reads)-1]
			if last.status != 200 {
				t.Errorf("%s: not served at the end", name)
			}
			t.Logf("%s: %d reads, %d refused, served again after %v", name, len(reads), refused, again.Sub(enabled).Round(time.Millisecond))
		}
	}
	two.terminate()
	one.terminate()
}

// SIGTERM during an upload: it is finished, and the process exits with 0.
func TestSigterm(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir, onFreePorts()...)
	acme := readDemo(t, dir+"/byok-data").Organizations[0]
	client := newClient()
	want(t, client, "POST", p.api+keysPath, acme.Token, []byte(`{"cmk_arn":"`+acme.CMKARN+`"}`), 201)
	want(t, client, "POST", p.api+ackPath, acme.Token, []byte(ackAll), 200)

	const path = "/api/v1/records/notes/upload"
	half := bytes.Repeat([]byte("0123456789abcdef"), 1<<15) // 512 KiB
	body, feed := io.Pipe()
	r, err := http.NewRequest("PUT", p.api+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+acme.Token)
	var wg sync.WaitGroup
	wg.Go(func() {
		resp, err := newClient().Do(r)
		if err != nil {
			t.Errorf("the upload: %v", err)
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode != 201 {
			t.Errorf("the upload: status %d", resp.StatusCode)
		}
	})
	if _, err := feed.Write(half); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	select {
	case err := <-p.exited:
		t.Fatalf("it did not wait for the upload: %v\n%s", err, p.log)
	default:
	}
	if _, err := send(newClient(), "GET", p.api+"/healthz", "", nil); err == nil {
		t.Error("it still takes connections")
	}
	_, _ = feed.Write(half)
	_ = feed.Close()
	wg.Wait()
	p.wantExit0()

	p = start(t, dir, onFreePorts()...)
	a := want(t, client, "GET", p.api+path, acme.Token, nil, 200)
	if !bytes.Equal(a.body, append(half[:len(half):len(half)], half...)) {
		t.Errorf("%d bytes came back, not those that were sent", len(a.body))
	}
	p.terminate()
}
