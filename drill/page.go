package drill

import (
	"fmt"
	"strings"
	"time"
)

// Markdown returns the report as a page for people.
func (r *Report) Markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	who, from := "by the drill itself", "acknowledged by the KMS"
	if r.ByHand {
		who, from = "by hand", "that somebody spoke of, or a worker saw"
	}
	p("# Revocation drill: %s\n\n", strings.ToUpper(string(r.Verdict)))
	p("Tenant `%s`, key `%s`. %d workers, each with a Keeper of its own on the platform's Store, sealed and opened canary records, %v apart.\n",
		r.Tenant, r.Key.ID, len(r.Workers), interval)
	p("Begun %s, ended after %v. The key was denied and given back %s. %s\n\n", r.Began.UTC().Format(time.RFC3339), Millis(r.Ended.Sub(r.Began)), who, r.Setting)
	for _, f := range r.Findings {
		p("- **%s**\n", f)
	}
	if len(r.Findings) > 0 {
		p("\n")
	}
	if r.Stop.IsZero() {
		p("Whether the key was denied is not known: nothing was measured.\n")
		return b.String()
	}

	p("| | measured | must be |\n|---|---|---|\n")
	p("| first denial, in any worker | %s | |\n", or(r.FirstDenial, "none"))
	p("| first denial, in the last worker to have one | %s | |\n", or(r.LastFirstDenial, "none"))
	p("| last success begun, in any worker | %s | before %v |\n", or(r.LastSuccess, "none after the stop"), r.Bound)
	p("| successes after the first denial, in the same worker | %d of %d tried | **0** |\n", r.AfterDenial.Succeeded, r.AfterDenial.Tried)
	p("| successes after the bound, in any worker | %d of %d tried | **0** |\n", r.AfterBound.Succeeded, r.AfterBound.Tried)
	p("| recovery of the slowest worker | %s | at most its limit, below |\n", or(r.Recovery, "not all recovered"))
	p("| KMS still permitted a request (propagation) | %s | not byok's |\n\n", or(r.KMSPermitted, "none after the stop"))
	p("Times count from the stop, and recovery from the instant at which access was given back.\n\n")

	p("| worker | served before | first denial | last success | after denial | after bound | recovery | its limit | failed |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, w := range r.Workers {
		p("| %d | %d | %s | %s | %d of %d | %d of %d | %s | %v | %d |\n", w.Worker, w.Served, or(w.FirstDenial, "none"), or(w.LastSuccess, "none"),
			w.AfterDenial.Succeeded, w.AfterDenial.Tried, w.AfterBound.Succeeded, w.AfterBound.Tried, or(w.Recovery, "none"), w.RecoveryLimit, w.Failed)
	}

	p("\n| instant | UTC | |\n|---|---|---|\n")
	for _, i := range []struct {
		what string
		t    time.Time
	}{
		{"stop asked for", r.StopAsked}, {"stop acknowledged", r.Stop},
		{"access asked for again", r.RestoreAsked}, {"access given back", r.Restore},
	} {
		if i.t.IsZero() {
			p("| %s | never | |\n", i.what)
		} else {
			p("| %s | %s | %+.2f s |\n", i.what, i.t.UTC().Format("15:04:05.000"), i.t.Sub(r.Stop).Seconds())
		}
	}

	p("\n**What is counted.** The stop is the one %s. Until all of a KMS knows of it, the KMS may go on permitting requests, and each is a lawful\n", from)
	p("proof: so the bound is MaxAge, %v, after the last of them, here %v after the stop. In that time the KMS itself would have served anybody.\n", r.MaxAge, r.Bound)
	p("An operation succeeded \"after\" something if it was begun after it and ended before access was asked for again. Whoever had been denied\n")
	p("was refused at once from then on, without a question to KMS but one per back-off step. The limit of a recovery is what was left of that step,\n")
	p("the KMS requests themselves, and for the machine %v and %d times a slow refusal.\n", allowance, busy)
	return b.String()
}

func or(m *Millis, none string) string {
	if m == nil {
		return none
	}
	return m.String()
}
