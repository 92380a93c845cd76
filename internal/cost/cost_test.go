package cost_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/cost"
	"github.com/byok-go/byok/internal/fipstest"
)

func TestMain(m *testing.M) { fipstest.Main(m) }

// discard is an AuditSink that keeps nothing.
type discard struct{}

func (discard) Record(context.Context, byok.Event) error { return nil }

// A thousand tenants in ten processes at MaxAge 60 s need as many KMS requests as the
// formula says, and so do fewer at other ages.
func TestCostOfAFleet(t *testing.T) {
	for _, c := range []struct {
		tenants, processes int
		maxAge, gap        time.Duration
	}{
		{1000, 10, time.Minute, 15 * time.Second},
		{20, 3, time.Minute, time.Second},
		{20, 3, 5 * time.Minute, 10 * time.Second},
		{20, 3, 10 * time.Second, 2 * time.Second},
		{20, 3, time.Minute, 2 * time.Minute}, // rarely used: each use is a request
	} {
		if raceDetector {
			c.tenants = min(c.tenants, 100)
		}
		t.Run(fmt.Sprint(c.tenants, c.processes, c.maxAge, c.gap), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := byoktest.New(t, &byoktest.Options{Sink: discard{}, Keeper: &byok.Options{MaxAge: c.maxAge}})
				sealed := make([][]byte, c.tenants)
				for i := range sealed {
					name := fmt.Sprint("t", i)
					env.Tenant(name)
					var err error
					if sealed[i], err = env.Keeper.Seal(t.Context(), byok.Scope{Tenant: name}, nil, nil); err != nil {
						t.Fatal(err)
					}
				}
				fleet := make([]*byok.Keeper, c.processes)
				for i := range fleet {
					fleet[i] = env.NewKeeper()
				}
				requests := func() (n uint64) {
					for _, k := range fleet {
						n += k.Stats().KMSCalls
					}
					return n
				}
				const slots = 10 // uses are spread over the gap
				run := func(d time.Duration) {
					for slot := 0; d > 0; slot++ {
						for p, k := range fleet {
							for i := (slot + p) % slots; i < len(sealed); i += slots {
								if _, err := k.Open(t.Context(), byok.Scope{Tenant: fmt.Sprint("t", i)}, sealed[i], nil); err != nil {
									t.Fatal(err)
								}
							}
						}
						time.Sleep(c.gap / slots)
						d -= c.gap / slots
					}
				}
				period := max(c.gap, (c.maxAge+c.gap)/2)
				run(period) // out of step
				before := requests()
				measured := 2 * period
				if c.tenants < 100 {
					measured = 40 * period
				}
				run(measured)
				got, want := float64(requests()-before), cost.Requests(c.tenants, c.processes, c.maxAge, c.gap, measured)
				t.Logf("%.0f requests in %v, the formula says %.0f", got, measured, want)
				if got < want*0.9 || got > want*1.1 {
					t.Errorf("%.0f requests, want %.0f within 10 %%", got, want)
				}
			})
		})
	}
}

// The table in docs/operations.md is the formula's.
func TestCostInTheDocs(t *testing.T) {
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "| tenants | processes |")
	if !ok {
		t.Fatal("docs/operations.md has no table of tenants and processes")
	}
	table, _, _ := strings.Cut(rest, "\n\n")
	rows := 0
	for _, line := range strings.Split(table, "\n")[2:] {
		var tenants, processes int
		cells := strings.Split(strings.Trim(line, "| "), "|")
		if len(cells) != 5 {
			t.Fatalf("%q has %d cells, want 5", line, len(cells))
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if _, err := fmt.Sscan(strings.ReplaceAll(cells[0], " ", "")+" "+cells[1], &tenants, &processes); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for i, maxAge := range []time.Duration{15 * time.Second, time.Minute, 5 * time.Minute} {
			hour := cost.Requests(tenants, processes, maxAge, 0, time.Hour)
			month := cost.Dollars(cost.Requests(tenants, processes, maxAge, 0, cost.Month))
			if want := fmt.Sprintf("%s, $ %s", thousands(hour), thousands(month)); cells[2+i] != want {
				t.Errorf("%d tenants, %d processes, MaxAge %v: the docs say %q, the formula %q", tenants, processes, maxAge, cells[2+i], want)
			}
		}
		rows++
	}
	if rows < 4 {
		t.Errorf("%d rows", rows)
	}
	if !strings.Contains(string(b), fmt.Sprintf("$ %.2f per %s requests", cost.Price, thousands(cost.Per))) {
		t.Error("docs/operations.md does not tell the price")
	}
}

// thousands writes a number with spaces, and cents if it is small.
func thousands(f float64) string {
	if f < 100 {
		return fmt.Sprintf("%.2f", f)
	}
	s := fmt.Sprintf("%.0f", f)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}
