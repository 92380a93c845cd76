package integration

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/byok-go/byok/kmsfake"
)

// What is checked after a chaos run, apart from it, so that the checks are tested
// themselves.

// window is a time in which the KMS denied a tenant's key: from after it began to
// do so until before it ended. Only operations that lie in it as a whole count.
type window struct {
	tenant      byte
	kind        string
	from, until int64
}

// slack is how long a goroutine may be kept from noting the time, on a busy machine.
const slack = 250 * time.Millisecond

// afterDenial finds the operations of one process on one tenant that succeeded
// although a denial stood: they were begun after an operation had been refused,
// and the KMS has permitted this process nothing since then that was asked after
// the denial. tried are those that might have.
//
// An operation that was refused began at some time while the key was denied. So
// a permission that ended well before that beginning cannot have ended the denial.
func afterDenial(obs []observation) (bad []observation, tried int) {
	var permits []int64 // completions
	var denials []observation
	for _, o := range obs {
		switch {
		case o.What == obsKMS && o.Out == outServed:
			permits = append(permits, o.Completed)
		case o.What != obsKMS && o.Out == outDenied:
			denials = append(denials, o)
		}
	}
	slices.Sort(permits)
	sort.Slice(denials, func(i, j int) bool { return denials[i].Completed < denials[j].Completed })
	latest := make([]int64, len(denials)) // the latest beginning of the first i+1 denials
	for i, d := range denials {
		latest[i] = d.Issued
		if i > 0 {
			latest[i] = max(latest[i], latest[i-1])
		}
	}
	for _, o := range obs {
		if o.What == obsKMS {
			continue
		}
		n := sort.Search(len(denials), func(i int) bool { return denials[i].Completed >= o.Issued })
		if n == 0 {
			continue
		}
		since := latest[n-1] - int64(slack)
		i := sort.Search(len(permits), func(i int) bool { return permits[i] >= since })
		if i < len(permits) && permits[i] <= o.Completed+int64(slack) {
			continue
		}
		if tried++; o.Out == outServed || o.Out == outWrong {
			bad = append(bad, o)
		}
	}
	return bad, tried
}

// afterBound finds the operations that succeeded although they were begun maxAge
// or more after the KMS began to deny the tenant's key.
func afterBound(obs []observation, windows []window, maxAge time.Duration) (bad []observation, tried int) {
	for _, w := range windows {
		for _, o := range obs {
			if o.What == obsKMS || o.Tenant != w.tenant || o.Issued < w.from+int64(maxAge) || o.Completed > w.until {
				continue
			}
			if tried++; o.Out == outServed || o.Out == outWrong {
				bad = append(bad, o)
			}
		}
	}
	return bad, tried
}

// life is one run of a process, as the KMS and the audit log know it.
type life struct {
	accessKey string
	ended     time.Time
	killed    bool
}

// Calls that the KMS decided this long before a process was killed, or stopped,
// need not be in the audit log: their event was still to come. A stopped process
// had no weather for a while.
const (
	unrecordedKilled  = 25 * time.Second
	unrecordedStopped = time.Second
)

// unanswered counts the attempts that events tell of without a request id, since
// no answer came in time: by the process, as its event ids name it, and operation.
type unanswered map[[2]string]int

func (u unanswered) take(process, op string) bool {
	if u[[2]string{process, op}] == 0 {
		return false
	}
	u[[2]string{process, op}]--
	return true
}

// processOf is the part of an event's id that names the process.
func processOf(e event) string { return e.ID[max(0, len(e.ID)-12):] }

// auditMismatches compares the KMS's log with the kms_calls of the audit log: each
// request stands in one event, by its id, or as an attempt of the same process without
// an answer.
func auditMismatches(calls map[string]kmsfake.Call, events []event, lives []life) (bad []string, matched, lost int) {
	told, open, process := map[string]bool{}, unanswered{}, map[string]string{}
	for _, e := range events {
		for _, c := range e.Calls {
			if c.RequestID == "" {
				open[[2]string{processOf(e), c.Op}]++
				continue
			}
			known, ok := calls[c.RequestID]
			switch {
			case told[c.RequestID]:
				bad = append(bad, fmt.Sprintf("request %s stands in two events", c.RequestID))
			case !ok:
				bad = append(bad, fmt.Sprintf("event %s has a request %s that the KMS does not know", e.ID, c.RequestID))
			case known.Operation != c.Op:
				bad = append(bad, fmt.Sprintf("request %s is %s in the event, and was %s", c.RequestID, c.Op, known.Operation))
			}
			told[c.RequestID] = true
			process[known.AccessKeyID] = processOf(e)
		}
	}
	by := map[string]life{}
	for _, l := range lives {
		by[l.accessKey] = l
	}
	for id, c := range calls {
		l, ours := by[c.AccessKeyID]
		if !ours {
			continue
		}
		if told[id] {
			matched++
			continue
		}
		grace := unrecordedStopped
		if l.killed {
			grace = unrecordedKilled
		}
		switch {
		case open.take(process[c.AccessKeyID], c.Operation): // the process cannot know the id
			lost++
		case !c.Time.Before(l.ended.Add(-grace)):
			lost++
		default:
			bad = append(bad, fmt.Sprintf("%s %s of %s (%q, fault %q), %v before its end, is in no event", c.Operation, id, c.AccessKeyID, c.Code, c.Fault, l.ended.Sub(c.Time)))
		}
	}
	return bad, matched, lost
}

// eventsWithCalls reads those of the audit log that have KMS calls.
func eventsWithCalls(t *testing.T, db *sql.DB) (all []event, total int) {
	t.Helper()
	ctx := context.Background()
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM byok_events`).Scan(&total); err != nil {
		t.Fatal(err)
	}
	rows, err := db.QueryContext(ctx, `SELECT event FROM byok_events WHERE event LIKE '%"kms_calls"%'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		var e event
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		e.raw = nil
		all = append(all, e)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all, total
}

// The checks of a chaos run, on observations that are made up.
func TestChaosChecks(t *testing.T) {
	ms := func(n int) int64 { return int64(n) * int64(time.Millisecond) }
	obs := func(what, out byte, issued, completed int) observation {
		return observation{What: what, Out: out, Issued: ms(issued), Completed: ms(completed)}
	}
	denied := obs(obsOpen, outDenied, 10_000, 10_010)
	for _, c := range []struct {
		name string
		obs  []observation
		bad  int
	}{
		{"served before", []observation{obs(obsOpen, outServed, 9000, 9001), denied}, 0},
		{"under way", []observation{obs(obsOpen, outServed, 10_005, 10_020), denied}, 0},
		{"served after", []observation{denied, obs(obsOpen, outServed, 10_011, 10_012)}, 1},
		{"another operation", []observation{denied, obs(obsSeal, outServed, 11_000, 11_001)}, 1},
		{"a wrong record", []observation{denied, obs(obsOpen, outWrong, 11_000, 11_001)}, 1},
		{"refused after", []observation{denied, obs(obsOpen, outDenied, 11_000, 11_001), obs(obsOpen, outFailed, 11_000, 11_001)}, 0},
		{"permitted in between", []observation{denied, obs(obsKMS, outServed, 10_900, 11_000), obs(obsOpen, outServed, 11_001, 11_002)}, 0},
		{"permitted too late", []observation{denied, obs(obsOpen, outServed, 10_500, 10_501), obs(obsKMS, outServed, 11_900, 12_000), obs(obsOpen, outServed, 12_001, 12_002)}, 1},
		{"permitted long before", []observation{obs(obsKMS, outServed, 9000, 9500), denied, obs(obsOpen, outServed, 10_011, 10_012)}, 1},
		{"denied again", []observation{denied, obs(obsKMS, outServed, 10_900, 11_000), obs(obsOpen, outDenied, 15_000, 15_001), obs(obsOpen, outServed, 15_002, 15_003)}, 1},
		{"a slow denial", []observation{obs(obsKMS, outServed, 10_001, 10_002), obs(obsOpen, outDenied, 10_000, 14_000), obs(obsOpen, outServed, 14_001, 14_002)}, 0},
		{"KMS denied again only", []observation{denied, obs(obsKMS, outDenied, 10_900, 11_000), obs(obsOpen, outServed, 11_001, 11_002)}, 1},
	} {
		if bad, _ := afterDenial(c.obs); len(bad) != c.bad {
			t.Errorf("%s: %d found, want %d", c.name, len(bad), c.bad)
		}
	}
	w := []window{{tenant: 0, from: ms(10_000), until: ms(15_000)}}
	for name, c := range map[string]struct {
		o          observation
		bad, tried int
	}{
		"before the bound":        {obs(obsOpen, outServed, 11_999, 14_000), 0, 0},
		"at the bound":            {obs(obsOpen, outServed, 12_000, 12_001), 1, 1},
		"refused":                 {obs(obsOpen, outDenied, 12_000, 12_001), 0, 1},
		"completed after the end": {obs(obsOpen, outServed, 14_999, 15_001), 0, 0},
		"a request":               {obs(obsKMS, outServed, 13_000, 13_001), 0, 0},
	} {
		if bad, tried := afterBound([]observation{c.o}, w, 2*time.Second); len(bad) != c.bad || tried != c.tried {
			t.Errorf("%s: %d of %d, want %d of %d", name, len(bad), tried, c.bad, c.tried)
		}
	}
	now := time.Now()
	call := func(key, fault string, age time.Duration) kmsfake.Call {
		return kmsfake.Call{Operation: "Decrypt", AccessKeyID: key, Fault: fault, Time: now.Add(-age)}
	}
	lives := []life{{"stopped", now, false}, {"killed", now, true}}
	ev := func(ids ...string) (e event) {
		e.ID = "19a000000000000000000001" + "aabbccddeeff"
		for _, id := range ids {
			e.Calls = append(e.Calls, struct {
				RequestID string `json:"request_id"`
				Op        string `json:"op"`
			}{id, "Decrypt"})
		}
		return e
	}
	for name, c := range map[string]struct {
		calls  map[string]kmsfake.Call
		events []event
		bad    int
	}{
		"one to one":                   {map[string]kmsfake.Call{"a": call("stopped", "", time.Hour)}, []event{ev("a", "")}, 0},
		"twice in an event":            {map[string]kmsfake.Call{"a": call("stopped", "", time.Hour)}, []event{ev("a", "a")}, 1},
		"in two events":                {map[string]kmsfake.Call{"a": call("stopped", "", time.Hour)}, []event{ev("a"), ev("a")}, 1},
		"unknown":                      {nil, []event{ev("a")}, 1},
		"another operation":            {map[string]kmsfake.Call{"a": {Operation: "Encrypt", AccessKeyID: "stopped", Time: now}}, []event{ev("a")}, 1},
		"in no event":                  {map[string]kmsfake.Call{"a": call("stopped", "", 2*time.Second)}, nil, 1},
		"its answer got lost":          {map[string]kmsfake.Call{"a": call("stopped", "", time.Hour), "b": call("stopped", "lost-answer", time.Hour)}, []event{ev("a"), ev("")}, 0},
		"two lost, one told of":        {map[string]kmsfake.Call{"a": call("stopped", "", time.Hour), "b": call("stopped", "lost-answer", time.Hour), "c": call("stopped", "", time.Hour)}, []event{ev("a"), ev("")}, 1},
		"lost, and not told of":        {map[string]kmsfake.Call{"a": call("stopped", "", time.Hour), "b": call("stopped", "lost-answer", time.Hour)}, []event{ev("a")}, 1},
		"killed before the event":      {map[string]kmsfake.Call{"a": call("killed", "", 2*time.Second)}, nil, 0},
		"killed long after":            {map[string]kmsfake.Call{"a": call("killed", "", time.Minute)}, nil, 1},
		"somebody else's":              {map[string]kmsfake.Call{"a": call("", "", time.Hour)}, nil, 0},
		"slow answers must be known":   {map[string]kmsfake.Call{"a": call("stopped", "slow-answer", time.Hour)}, nil, 1},
		"throttled ones must be known": {map[string]kmsfake.Call{"a": call("stopped", "ThrottlingException", time.Hour)}, nil, 1},
	} {
		if bad, _, _ := auditMismatches(c.calls, c.events, lives); len(bad) != c.bad {
			t.Errorf("%s: %q, want %d", name, bad, c.bad)
		}
	}
}
