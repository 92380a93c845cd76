package main

// ofKeeper: leases, the cache, limits, calls of the KMS, Seal and Open, the life of a tenant.
var ofKeeper = []mutation{
	// The lease machine.
	{name: "lease-proof-dated-at-answer", file: "internal/lease/lease.go", tests: ".", // a slow answer prolongs access
		old: "\tat := c.at\n\tif !at.Before(read) {\n\t\tat = read\n\t}",
		new: "\tat := read"},
	{name: "lease-store-read-not-counted", file: "internal/lease/lease.go", tests: ".",
		old: "if !at.Before(read) {", new: "if false {"},
	{name: "lease-machine-sleeps-after-the-read", file: "internal/lease/lease.go", tests: ".", // F3: the monotonic clock says that it was at once
		old: "if !at.Before(read) {", new: "if read.Before(at) {"},
	{name: "lease-no-generation-on-success", file: "internal/lease/lease.go", tests: ".", // I1
		old: "\tif k.Overtaken(c) {\n\t\treturn false\n\t}\n", new: ""},
	{name: "lease-no-generation-on-proof", file: "internal/lease/lease.go", tests: ".",
		old: "if k.denied || c.gen != k.gen || c.op", new: "if k.denied || c.op"},
	{name: "lease-no-generation-on-check", file: "internal/lease/lease.go", tests: ".", // old proofs come back with access
		old: "if !ok || p.gen != k.gen || age >= maxAge {", new: "if !ok || age >= maxAge {"},
	{name: "lease-served-at-max-age", file: "internal/lease/lease.go", tests: ".", // I2
		old: "age >= maxAge {", new: "age > maxAge {"},
	{name: "lease-monotonic-clock-only", file: "internal/lease/clock.go", tests: ".", // F3: a suspended machine
		old: "return max(mono, wall), true", new: "return mono, true"},
	{name: "lease-wall-clock-only", file: "internal/lease/clock.go", tests: ".",
		old: "return max(mono, wall), true", new: "return wall, true"},
	{name: "lease-no-skew-check", file: "internal/lease/clock.go", tests: ".", // F1
		old: "if mono < 0 || wall < mono-Skew {", new: "if mono < 0 {"},
	{name: "lease-wall-with-monotonic", file: "internal/lease/clock.go", tests: ".", // Sub would ignore the wall
		old: "Wall: now.Round(0)}", new: "Wall: now}"},
	{name: "lease-outage-forgives-denial", file: "internal/lease/lease.go", tests: ".",
		old: "\tk.fails++\n", new: "\tk.fails++\n\tk.denied = false\n"},
	{name: "lease-outage-is-denial", file: "internal/lease/lease.go", tests: ".",
		old: "\tk.fails++\n", new: "\tk.fails++\n\tk.denied = true\n"},
	{name: "lease-outage-no-backoff", file: "internal/lease/lease.go", tests: ".",
		old: "\tk.fails++\n", new: ""},
	{name: "lease-outage-extends", file: "internal/lease/lease.go", tests: ".",
		old: "if !ok || p.gen != k.gen || age >= maxAge {", new: "if !ok || p.gen != k.gen || age >= maxAge && k.fails == 0 {"},
	{name: "lease-older-proof-is-newer", file: "internal/lease/lease.go", tests: ".",
		old: "|| q.at.Before(p.at) }", new: "|| p.at.Before(q.at) }"},
	{name: "lease-encrypt-proves", file: "internal/lease/lease.go", tests: ".",
		old: "|| c.op&(Generate|Unwrap) == 0 {", new: "{"},
	{name: "lease-sticky-denial", file: "internal/lease/lease.go", tests: ".", // I5
		old: "k.denied, k.since, k.steps = false, 0, 0", new: "k.since, k.steps = 0, 0"},
	{name: "lease-leaves-denied-after-any", file: "internal/lease/lease.go", tests: ".",
		old: "if k.need &^= c.op; k.need == 0 {", new: "if k.need &^= c.op; true {"},
	{name: "lease-no-decrypt-needed", file: "internal/lease/lease.go", tests: ".",
		old: "k.need = k.since | Unwrap", new: "k.need = k.since"},
	{name: "lease-only-newest-denial-needed", file: "internal/lease/lease.go", tests: ".",
		old: "k.since |= c.op", new: "k.since = c.op"},
	{name: "lease-denial-keeps-generation", file: "internal/lease/lease.go", tests: ".",
		old: "\tk.gen++\n", new: ""},
	{name: "lease-ask-without-end", file: "internal/lease/lease.go", tests: ".", // a denied KMS is asked all the time
		old: "\tcase k.denied:\n\t\tk.next = later(now, backoff(denyBackoff, denyBackoffMax, k.steps))\n\tcase k.Broken():", new: "\tcase k.Broken():"},
	{name: "lease-no-renewal-ahead", file: "internal/lease/lease.go", tests: ".",
		old: "if age >= p.refresh && now.Mono >= k.again.Mono && now.Mono >= k.rest.Mono {", new: "if false {"},
	{name: "lease-breaker-never-opens", file: "internal/lease/lease.go", tests: ".",
		old: "return k.fails >= BreakAfter }", new: "return false }"},
	{name: "lease-breaker-probes-without-end", file: "internal/lease/lease.go", tests: ".",
		old: "\tcase k.Broken():\n\t\tk.again = later(now, backoff(outageBackoff, outageBackoffMax, k.fails))\n\t}\n\treturn true", new: "\t}\n\treturn true"},
	{name: "lease-breaker-never-closes", file: "internal/lease/lease.go", tests: ".", // I5
		old: "\tk.fails, k.stalls = 0, 0\n", new: "\tk.stalls = 0\n"},
	{name: "lease-breaker-hides-denial", file: "internal/lease/lease.go", tests: ".", // I6
		old: "\tcase k.denied: // by an authoritative answer: what outages say is less\n", new: "\tcase k.denied && !k.Broken():\n"},
	{name: "lease-breaker-counts-the-past", file: "internal/lease/lease.go", tests: ".", // outages older than an answer
		old: "if c.news == k.news {", new: "if true {"},

	// The data-key cache, and loading into it.
	{name: "cache-denial-purges-one", file: "access.go", tests: ".", // I10
		old: "purged = t.purge(func(*entry) bool { return true })",
		new: "purged = t.purge(func() func(e *entry) bool {\n\t\t\tn := 0\n\t\t\treturn func(*entry) bool { n++; return n == 1 }\n\t\t}())"},
	{name: "cache-denial-purges-nothing", file: "access.go", tests: ".",
		old: "\t\t\tt.epoch++\n\t\t\tpurged = t.purge(func(*entry) bool { return true })", new: "\t\t\tt.epoch++"},
	{name: "cache-denial-is-outage", file: "access.go", tests: "Simulation|I1_",
		old: "\t\ta.lease.Deny(c, t.k.clock.Now())\n", new: "\t\ta.lease.Fail(c, t.k.clock.Now(), 0)\n"},
	{name: "cache-sliding-expiry", file: "grant.go", tests: "Simulation|I4_", // each use prolongs the lease
		old: "\tt.mu[g.lane].hits.Add(1)\n", new: "\tt.mu[g.lane].hits.Add(1)\n\tt.mu.Lock()\n\tnow := t.k.clock.Now()\n\tfor i := range g.e.proofs {\n\t\tp := &g.e.proofs[i]\n\t\tif anew, ok := p.a.lease.Prove(p.a.lease.Begin(lease.Unwrap, now), now, t.k.maxAge, 0.5); ok {\n\t\t\tp.Proof = anew\n\t\t}\n\t}\n\tt.mu.Unlock()\n"},
	{name: "cache-purge-leaves-index", file: "cache.go", tests: ".",
		old: "\tif t.current[e.id.purpose] == e {\n\t\tdelete(t.current, e.id.purpose)\n\t}\n", new: ""},
	{name: "cache-purge-does-not-wipe", file: "cache.go", tests: ".",
		old: "\tfor _, e := range gone {\n\t\te.dek.Wipe()\n\t}\n", new: ""},
	{name: "cache-outage-purges", file: "access.go", tests: ".", // I7
		old: "\t\ta.lease.Fail(c, t.k.clock.Now(), rand.Float64())\n", new: "\t\ta.lease.Fail(c, t.k.clock.Now(), rand.Float64())\n\t\tpurged = t.purge(func(*entry) bool { return true })\n"},
	{name: "cache-blob-error-purges", file: "access.go", tests: ".", // I9
		old: "\tcase ClassBlob:\n", new: "\tcase ClassBlob:\n\t\tpurged = t.purge(func(*entry) bool { return true })\n"},
	{name: "cache-blob-error-denies", file: "access.go", tests: ".",
		old: "\tcase ClassBlob:\n", new: "\tcase ClassBlob:\n\t\ta.lease.Deny(c, t.k.clock.Now())\n"},
	{name: "cache-platform-denial-is-outage", file: "access.go", tests: ".",
		old: "\tcase ClassDenied, ClassPlatformDenied:\n\t\tfirst", new: "\tcase ClassDenied:\n\t\tfirst"},
	{name: "cache-install-ignores-state", file: "cache.go", tests: ".", // suspended while KMS was asked
		old: "if !t.prove(e, q, read, rand.Float64()) || t.refusal() != nil {", new: "if !t.prove(e, q, read, rand.Float64()) {"},
	{name: "cache-no-refusal-at-release", file: "access.go", tests: ".", // I8
		old: "\tif err := t.refusal(); err != nil {\n\t\treturn now, err\n\t}\n\tnow = ", new: "\tnow = "},
	{name: "cache-no-last-release-check", file: "envelope.go", tests: ".", // a denial while the event is recorded
		old: "if err = t.still(ctx, g); err != nil {", new: "if false {"},
	{name: "cache-rollback-ignored", file: "state.go", tests: ".", // I17
		old: "if s.revision < floor {\n\t\t\treturn nil, errRolledBack\n\t\t}\n\t\tif t.see(s) {", new: "if t.see(s) || floor > 0 || errRolledBack == nil {"},
	{name: "cache-suspension-keeps-keys", file: "cache.go", tests: ".",
		old: "return s.usable(t.k) != nil || others })", new: "return others })"},
	{name: "cache-rotation-keeps-current", file: "cache.go", tests: ".",
		old: "\t\t\tclear(t.current)\n", new: ""},
	{name: "load-in-the-leaders-ctx", file: "flight.go", tests: ".", // I12: who leaves takes the others along
		old: "ctx, cancel := t.k.detach(ctx, kmsDeadline)", new: "ctx, cancel := context.WithTimeout(ctx, kmsDeadline)"},
	{name: "load-no-flight", file: "flight.go", tests: ".", // I12
		old: "if fl := t.flights[id]; fl != nil {", new: "if fl := t.flights[id]; false {"},
	{name: "load-renewal-without-store", file: "load.go", tests: ".",
		old: "\t\titem, w, err := t.readDataKey(ctx, purpose, id)\n",
		new: "\t\titem, w, err := t.readDataKey(ctx, purpose, id)\n\t\tread = t.k.clock.Now()\n"},
	{name: "load-state-not-read", file: "load.go", tests: ".", // a suspension elsewhere is not seen
		old: "if s, err = t.readState(ctx); err == nil {", new: "if s = t.state; s == nil {\n\t\ts, err = t.readState(ctx)\n\t}\n\tif err == nil {"},
	{name: "load-not-audited", file: "load.go", tests: ".", // installed although the sink failed
		old: "\tif err == nil {\n\t\tif out := t.install(q, e, read); out != nil {\n\t\t\tt.used.touch(e.generation, t.k.clock.Now().Wall)\n\t\t\treturn out, nil\n\t\t}\n\t\terr = t.lost()\n\t}\n\te.dek.Wipe()",
		new: "\tif e.dek != nil {\n\t\tif out := t.install(q, e, read); out != nil {\n\t\t\tt.used.touch(e.generation, t.k.clock.Now().Wall)\n\t\t\treturn out, nil\n\t\t}\n\t\terr = t.lost()\n\t}\n\te.dek.Wipe()"},
	{name: "load-data-key-not-exclusive", file: "load.go", tests: ".", // I19
		old: "if _, err := t.k.getJSON(ctx, ref, &g); err != ErrNotFound {\n\t\t\tif err == nil {\n\t\t\t\terr, winner = errLostRace, g.DataKey\n\t\t\t}\n\t\t\treturn change{}, err\n\t\t}\n\t\tnow.DataKeys++\n\t\te.generation, event.Version = now.Generation, now.Generation\n\t\tch := change{quiet: true, events: []Event{event}, writes: []Item{\n\t\t\tencodeItem(ref, 0,",
		new: "rev, err := t.k.getJSON(ctx, ref, &g)\n\t\tif err != nil && err != ErrNotFound {\n\t\t\treturn change{}, errors.Join(err, errLostRace)\n\t\t}\n\t\twinner = DataKeyID{}\n\t\tnow.DataKeys++\n\t\te.generation, event.Version = now.Generation, now.Generation\n\t\tch := change{quiet: true, events: []Event{event}, writes: []Item{\n\t\t\tencodeItem(ref, rev,"},
	{name: "load-restores-after-one", file: "load.go", tests: ".", // leaves denied after one success of one operation
		old: "if missing&lease.Wrap != 0 {", new: "if false {"},
	{name: "load-asks-another-key", file: "wrapping.go", tests: ".", // of an ARN out of an envelope, and says that it is ours
		old: "r.Provider == key.Provider && r.Key == key.ID {", new: "r.Provider == key.Provider {"},
	{name: "load-ignores-backoff", file: "load.go", tests: ".", // of many data keys, all ask at once
		old: "if !a.lease.Ask(now) {", new: "if a.lease.Wait(now) > 0 {"},
	{name: "load-junk-takes-the-step", file: "load.go", tests: ".", // D9: what cannot pay uses up the question
		old: "\tdue, ke := p.spend(key, now.Mono)\n\tif ke != nil {\n\t\treturn nil, ke\n\t}\n\tif !a.lease.Ask(now) {\n\t\treturn nil, a.denial()\n\t}\n",
		new: "\tif !a.lease.Ask(now) {\n\t\treturn nil, a.denial()\n\t}\n\tdue, ke := p.spend(key, now.Mono)\n\tif ke != nil {\n\t\treturn nil, ke\n\t}\n"},
	{name: "load-junk-pays-like-the-known", file: "load.go", tests: ".", // D9
		old: "\t\tp = &t.budget.unknown\n", new: ""},
	{name: "load-blob-tried-for-ever", file: "inquiry.go", tests: ".", // D9
		old: "if blob != nil && q.t.blobs.refuses(*blob, q.t.k.clock.Now().Mono) {", new: "if false {"},
	{name: "load-blob-spoils-other-context", file: "blobs.go", tests: ".", // the right bytes under a wrong purpose
		old: "\tbad, ok := b.known[id]\n", new: "\tvar bad badBlob\n\tok := false\n\tfor i := range b.known {\n\t\tif i.wrapped == id.wrapped {\n\t\t\tbad, ok = b.known[i]\n\t\t}\n\t}\n"},
	{name: "load-blob-newest-forgotten", file: "blobs.go", tests: "BadBlobs",
		old: "if bad.until < first {", new: "if oldest == (entryID{}) || bad.until > first {"},
	{name: "load-blobs-unbounded", file: "blobs.go", tests: "BadBlobs",
		old: "if len(b.known) < maxBlobs {", new: "if len(b.known) < 2*maxBlobs {"},
	{name: "load-blob-memory-without-end", file: "blobs.go", tests: ".",
		old: "bad.tries >= blobTries && now < bad.until", new: "bad.tries >= blobTries"},
	{name: "load-junk-stalls-renewals", file: "flight.go", tests: ".", // D9
		old: "\t\tcase op != OpRenew:\n\t\tcase fl.err == nil:", new: "\t\tcase fl.err == nil:"},
	{name: "budget-retries-are-free", file: "calls.go", tests: ".",
		old: "\tif !c.paid {\n", new: "\tif false {\n"},
	{name: "budget-no-slots", file: "budget.go", tests: ".",
		old: "p.slots = make(chan struct{}, l.atOnce)", new: "p.slots = make(chan struct{}, 1000*l.atOnce)"},
	{name: "budget-shared-by-tenants", file: "budget.go", tests: "TestIsolation$", dir: "internal/budget",
		old: "p.slots = make(chan struct{}, l.atOnce)", new: "p.slots = oneForAll(l)\n}\n\nvar theOnlySlots = make(chan struct{}, 50)\n\nfunc oneForAll(poolLimit) chan struct{} {\n\treturn theOnlySlots"},
	{name: "budget-slot-waits-for-ever", file: "budget.go", tests: ".",
		old: "\tselect {\n\tcase p.slots <- struct{}{}:\n\t\treturn nil\n\tcase <-ctx.Done():", new: "\tp.slots <- struct{}{}\n\tselect {\n\tdefault:\n\t\treturn nil\n\tcase <-ctx.Done():"},
	{name: "budget-burst-without-end", file: "internal/budget/budget.go", tests: ".",
		old: "full := max(b.full, now)\n\twait = max(0", new: "full := b.full\n\twait = max(0"},
	{name: "budget-refuses-at-once", file: "budget.go", tests: ".", // a process that has just started
		old: "p.bucket.Take(now, p.patience)", new: "p.bucket.Take(now, 0)"},
	{name: "budget-goes-before-its-turn", file: "budget.go", tests: ".",
		old: "\tif due <= now {", new: "\tif true {"},
	{name: "budget-waits-for-ever", file: "budget.go", tests: ".",
		old: "\ttimer := time.NewTimer(due - now)\n\tdefer timer.Stop()\n\tselect {\n\tcase <-timer.C:\n\t\treturn nil\n\tcase <-ctx.Done():\n\t\treturn p.gaveUp(ctx, key)\n\t}\n",
		new: "\ttime.Sleep(due - now)\n\treturn nil\n"},
	{name: "breaker-for-the-impatient", file: "access.go", tests: ".", // I7
		old: "|| ctx.Err() != nil && took < kmsPatience", new: ""},
	{name: "breaker-hides-suspension", file: "keyset.go", tests: ".", // I6
		old: "if denied || t.state.usable(t.k) != nil {", new: "if denied {"},

	// How much a data key may seal (I15).
	{name: "limits-used-before-reserved", file: "limits.go", tests: "I15", // the answer of the Store is not waited for
		old: "\t\tcase !errors.Is(err, ErrConflict):\n\t\t\treturn storeError(err)\n", new: "\t\tcase !errors.Is(err, ErrConflict):\n\t\t\tq.grant(u, m, b)\n\t\t\treturn nil\n"},
	{name: "limits-conflict-is-a-grant", file: "limits.go", tests: "I15",
		old: "\t\tcase err == nil:\n\t\t\tq.t.k.stats.blocks.Add(1)", new: "\t\tcase err == nil, errors.Is(err, ErrConflict):\n\t\t\tq.t.k.stats.blocks.Add(1)"},
	{name: "limits-not-compared-and-set", file: "limits.go", tests: "I15", // reserved by two processes
		old: "m, b := min(wantM, max(0, l.messages-u.Messages)), ", new: "m, b := wantM, "},
	{name: "limits-bytes-not-counted", file: "limits.go", tests: "I15",
		old: "if q.bytes.Add(-bytes) >= 0 {", new: "if true {"},
	{name: "limits-message-lost-to-bytes", file: "limits.go", tests: "I15",
		old: "\t\tq.bytes.Add(bytes)\n\t}\n\tq.messages.Add(messages)\n\treturn false", new: "\t}\n\treturn false"},
	{name: "limits-goes-back", file: "limits.go", tests: "I15", // an older count is put back into the Store
		old: "\t\tif older {\n", new: "\t\tif older && l.messages < 0 {\n"},
	{name: "limits-remainder-forgotten", file: "cache.go", tests: "I15", // each end of a lease wastes a block
		old: "\tif t.entries[e.id] == e {\n\t\tdelete(t.entries, e.id)\n\t}", new: "\tdelete(t.quotas, e.id.dataKey)\n\tif t.entries[e.id] == e {\n\t\tdelete(t.entries, e.id)\n\t}"},
	{name: "limits-no-fetch-ahead", file: "limits.go", tests: "I15",
		old: "if q.low() && !q.spent.Load() {", new: "if false {"},
	{name: "limits-hoards", file: "limits.go", tests: "I15", // a crash wastes more than a block
		old: "\treturn block - max(0, have)\n", new: "\treturn 2 * block\n"},
	{name: "limits-no-roll-over", file: "limits.go", tests: "I15",
		old: "\t\t\t\terr = q.t.rollOver(ctx, q)\n", new: "\t\t\t\tq.messages.Add(messages)\n\t\t\t\tq.bytes.Add(bytes)\n\t\t\t\treturn nil\n"},
	{name: "limits-stale-data-key-is-free", file: "grant.go", tests: "I15", // without a count
		old: "\t\t\terr = errSpent\n\t\t\tcontinue\n", new: "\t\t\treturn g, nil\n"},

	// Long operations.
	{name: "hold-proves-once", file: "hold.go", tests: "LongOp", // I8
		old: "\tg.from = h.from\n\tif err != nil", new: "\tg.from = h.from\n\tif h.g.e != nil && !h.g.inside {\n\t\treturn h.g, nil\n\t}\n\tif err != nil"},
	{name: "hold-goes-on-after-an-error", file: "hold.go", tests: "LongOp",
		old: "\tif h.err != nil {\n\t\treturn nil, h.err\n\t}\n\tif h.ended", new: "\tif h.ended"},
	{name: "hold-ends-twice", file: "hold.go", tests: "LongOp", // I18
		old: "\th.recorded = true\n", new: ""},
	{name: "hold-forgets-its-error", file: "hold.go", tests: "LongOp",
		old: "\t} else {\n\t\terr = h.err\n\t}\n", new: "\t}\n"},
	{name: "hold-releases-without-asking", file: "hold.go", tests: "LongOp", // I8: denied during the step
		old: "if rerr := h.t.still(ctx, g); rerr != nil {", new: "if rerr := error(nil); rerr != nil {"},
	{name: "hold-success-stands", file: "hold.go", tests: "Stream|LongOp", // I18
		old: "\t\th.t.k.report(ctx, h.t.k.withheld(h.event, h.err))\n", new: ""},
	{name: "hold-bytes-not-counted", file: "hold.go", tests: "LongOp", // I15
		old: "quota.charge(ctx, 0, size)", new: "quota.charge(ctx, 0, 0)"},
	{name: "hold-begins-with-anothers-lease", file: "hold.go", tests: "E1_Streams", // E1
		old: "if t.k.perOperation { // asked", new: "if t.k.closed.Load() { // asked"},
	{name: "hold-bytes-alone-not-counted", file: "hold.go", tests: "LongOp", // I15
		old: "if h.bytes += size; h", new: "if h"},
	{name: "hold-keeps-close-waiting", file: "hold.go", tests: "LongOp", // I20
		old: "\tdefer h.t.k.leave()\n\tif h.seals &&", new: "\tif h.seals &&"},

	// Who waits for whom.
	{name: "late-denial-after-close", file: "calls.go", tests: "NoEventAfterClose", // I20
		old: "ke.Class.stops() && c.k.enter() {\n\t\t\tdefer c.k.leave()\n", new: "ke.Class.stops() {\n"},
	{name: "late-denial-ignored", file: "calls.go", tests: "NoEventAfterClose|E5",
		old: "ke.Class.stops() && c.k.enter() {", new: "false && c.k.enter() {"},
	{name: "report-waits-for-the-sink", file: "event.go", tests: "RefusedInTime",
		old: "rctx, cancel := context.WithTimeout(ctx, recordTimeout)\n\t\tdefer cancel()\n\t\tif k.record(rctx, e) == nil {", new: "rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)\n\t\tdefer cancel()\n\t\tif k.record(rctx, e) == nil {"},
	{name: "report-gives-up-with-the-caller", file: "event.go", tests: "RefusedInTime", // I18
		old: "\t\t\treturn\n\t\t}\n\t}\n\tk.retryRecord(ctx, e)\n", new: "\t\t\treturn\n\t\t}\n\t}\n"},
	{name: "sweep-before-the-load", file: "flight.go", tests: "HoldsUpNobodyElse",
		old: "\t\tfl.e, fl.err = f(ctx)\n", new: "\t\tt.k.sweep()\n\t\tfl.e, fl.err = f(ctx)\n"},
	{name: "cache-evicts-the-newest", file: "cache.go", tests: "E16|LeaseList",
		old: "e.place = k.lru.order.PushFront(", new: "e.place = k.lru.order.PushBack("},
	{name: "cache-list-keeps-the-old-place", file: "cache.go", tests: "E16|LeaseList", // and so the entry, when it is wiped
		old: "\tk.lru.mu.Lock()\n\tk.lru.remove(e)\n\tt.mu.RLock()\n", new: "\tk.lru.mu.Lock()\n\tt.mu.RLock()\n"},
	{name: "cache-list-takes-what-was-purged", file: "cache.go", tests: "E16|LeaseList", // and it pushes out what is used
		old: "\tif t.entries[e.id] == e { // else", new: "\tif true { // else"},
	{name: "cache-eviction-waits", file: "cache.go", tests: "HoldsUpNobodyElse",
		old: "t.k.wipeApart(t.k.touch(t, e))", new: "t.k.wipe(t.k.touch(t, e))"},

	// Calls of the KMS.
	{name: "calls-probe-retried", file: "calls.go", tests: ".", // with the breaker open one attempt is enough
		old: " || c.access.broken() {", new: " {"},
	{name: "calls-denial-retried", file: "calls.go", tests: ".",
		old: "case ClassOutage, ClassThrottled, ClassPlatform:\n\t\tdefault:", new: "case ClassOutage, ClassThrottled, ClassPlatform, ClassDenied:\n\t\tdefault:"},
	{name: "calls-outage-not-retried", file: "calls.go", tests: ".",
		old: "if n+1 == kmsAttempts || c.once ||", new: "if true || n+1 == kmsAttempts || c.once ||"},
	{name: "calls-attempt-not-listed", file: "calls.go", tests: ".", // I18
		old: "\tc.calls = append(c.calls, call)\n", new: "\tif ke == nil {\n\t\tc.calls = append(c.calls, call)\n\t}\n"},
	{name: "calls-context-shared", file: "calls.go", tests: ".", // a driver changes the map
		old: "dek, r, err := c.k.keys.UnwrapDataKey(ctx, c.key, bytes.Clone(wrapped), ec.Clone())", new: "dek, r, err := c.k.keys.UnwrapDataKey(ctx, c.key, bytes.Clone(wrapped), ec)"},
	{name: "calls-panic-passes", file: "calls.go", tests: ".",
		old: "if p := recover(); p != nil {", new: "if p := any(nil); p != nil {"},
	{name: "calls-key-not-wiped-on-error", file: "calls.go", tests: ".",
		old: "\tif err != nil {\n\t\tr.dek.Wipe()\n\t\treturn result{Receipt: r.Receipt}, err\n\t}\n", new: "\tif err != nil {\n\t\treturn result{Receipt: r.Receipt}, err\n\t}\n"},

	// Seal, Open, events.
	{name: "open-other-tenants", file: "operation.go", tests: ".",
		old: "case h.Tenant != o.scope.Tenant:", new: "case h.Tenant == \"\":"},
	{name: "open-fallback-on-store-error", file: "grant.go", tests: ".", // the wrapped key inside, when the Store is down
		old: "if err == ErrNotFound && !inside.none() {", new: "if err != nil && !inside.none() {"},
	{name: "open-says-why", file: "direct.go", tests: ".",
		old: "return ErrOpen // bare: anything more would tell what was wrong", new: "return err"},
	{name: "aad-not-bound", file: "operation.go", tests: ".",
		old: "format.AppendPayloadAAD(o.bound[:0], core, o.scope.Purpose, o.aad)", new: "format.AppendPayloadAAD(o.bound[:0], core, o.scope.Purpose, nil)"},
	{name: "append-over-its-input", file: "operation.go", tests: "I_8", // a failed Open would cost the envelope
		old: "floe.Reserve(o.dst, o.size, o.in, o.aad)", new: "floe.Reserve(o.dst, o.size, o.payload)"},
	{name: "append-over-its-plaintext", file: "operation.go", tests: "I_8", // a header sealed in place of the plaintext
		old: "floe.Reserve(o.dst, len(header)+size, o.in, o.aad)", new: "floe.Reserve(o.dst, len(header)+size, o.aad)"},
	{name: "append-plaintext-left", file: "operation.go", tests: "I_8",
		old: "clear(o.out[len(o.dst):])", new: "_ = o.out"},
	{name: "close-forgets-operations", file: "byok.go", tests: "I20", // I20
		old: "v.(*tenantCache).wait()", new: "_ = v"},
	{name: "close-forgets-lanes", file: "operation.go", tests: "I20",
		old: "\tfor i := range t.mu {", new: "\tfor i := range t.mu[:1] {"},
	{name: "dek-keeps-keyed-state", file: "dek.go", tests: "I_3_Wipe",
		old: "shared.Drop()", new: "_ = &shared"},
	{name: "floe-two-share-a-state", file: "internal/floe/keyed.go", tests: "Keyed",
		old: "messages.Get().(*message)", new: "messages.Get().(*message)\n\tmessages.Put(m)"},
	{name: "floe-keys-outlive-a-message", file: "internal/floe/keyed.go", tests: "Keyed",
		old: "\tm.wipe()\n", new: "\tm.wiped = true\n"},
	{name: "floe-pads-not-cleared", file: "internal/floe/keyed.go", tests: "Keyed",
		old: "\t\tp.wipe()\n", new: ""},
	{name: "floe-input-of-hmac-left", file: "internal/floe/hmac.go", tests: "Keyed",
		old: "\t\t\td.Write(h.block[1:])", new: "\t\t\td.Write(nil)"},
	{name: "floe-hmac-left-in-memory", file: "internal/floe/hmac.go", tests: "Keyed", // I-3
		old: "\tclear(h.block[:])\n", new: ""},
	{name: "floe-hmac-inner-pad-twice", file: "internal/floe/hmac.go", tests: "HMAC",
		old: "h.state(key, outerPad)}", new: "h.state(key, innerPad)}"},
	{name: "floe-state-not-reset", file: "internal/floe/message.go", tests: "Keyed",
		old: "\t\tm.mac.Reset()", new: "\t\t_ = m.mac"},
	{name: "event-failure-ignored", file: "event.go", tests: ".", // I18
		old: "\t\t\treturn e, rerr\n", new: "\t\t\treturn e, nil\n"},
	{name: "event-withheld-left-out", file: "envelope.go", tests: ".",
		old: "\t\tt.k.report(ctx, t.k.withheld(event, err))\n", new: ""},
	{name: "event-denial-not-noted", file: "access.go", tests: ".",
		old: "\tif first {\n", new: "\tif first && false {\n"},
	{name: "event-outbox-not-delivered", file: "change.go", tests: ".",
		old: "\t\tpending := box.Events\n", new: "\t\tpending := box.Events[:0]\n"},
	{name: "event-outbox-not-in-order", file: "change.go", tests: ".", // I18: skips what fails, and forgets it
		old: "\t\tif err := k.record(ctx, e); err != nil {\n\t\t\treturn err\n\t\t}\n", new: "\t\t_ = k.record(ctx, e)\n"},
	{name: "change-lost-answer-is-failure", file: "change.go", tests: ".", // G7
		old: "if err != nil && !t.took(ctx, ch.events[0].ID) {", new: "if err != nil {"},
	{name: "change-stop-waits-for-sink", file: "change.go", tests: ".",
		old: "\t\tif !stop {\n\t\t\tif err := t.k.recordAll(ctx, pending); err != nil {", new: "\t\tif true {\n\t\t\tif err := t.k.recordAll(ctx, pending); err != nil {"},
	{name: "change-goes-on-without-sink", file: "change.go", tests: ".", // and forgets what was not delivered
		old: "\t\t\tif err := t.k.recordAll(ctx, pending); err != nil {\n\t\t\t\treturn nil, err\n\t\t\t}\n\t\t\tpending = nil\n", new: "\t\t\t_ = t.k.recordAll(ctx, pending)\n\t\t\tpending = nil\n"},
	{name: "dek-zeros-after-wipe", file: "dek.go", tests: ".",
		old: "if wiped {", new: "if wiped && key == nil {"},
	{name: "dek-wipe-keeps-bytes", file: "dek.go", tests: ".",
		old: "\t\t\tclear(key)\n", new: ""},

	// The life of a tenant.
	{name: "waiver-flags-ignored", file: "state.go", tests: ".", // E19
		old: "&& a.DataLossRisk && a.KeyManagement && a.NoLiability", new: ""},
	{name: "waiver-hash-ignored", file: "state.go", tests: ".",
		old: "&& a.SHA256 == hash ", new: ""},
	{name: "state-pending-is-usable", file: "state.go", tests: ".",
		old: "\tcase s.Lifecycle == lifecyclePending:\n\t\treturn ErrWaiverRequired\n", new: "\tcase s.Lifecycle == lifecyclePending:\n\t\treturn nil\n"},
	{name: "state-suspension-ignored", file: "state.go", tests: ".",
		old: "case s.Suspended:", new: "case false:"},
	{name: "state-newer-layout-read", file: "state.go", tests: ".",
		old: "err != nil || head.V != layoutVersion {", new: "err != nil {"},
	{name: "state-purpose-not-checked", file: "state.go", tests: ".",
		old: "if item.Purpose != purpose {", new: "if false {"},
	{name: "register-binding-not-required", file: "register.go", tests: ".",
		old: "if !t.k.allowUnbound && !shares {", new: "if false {"},
	{name: "register-no-positive-probe-after", file: "probe.go", tests: ".",
		old: "\tif _, err := p.wrap(ctx, made.dek, ec); err != nil {\n\t\treturn \"\", err\n\t}\n\tswitch {", new: "\tswitch {"},
	{name: "register-claim-asked-first", file: "register.go", tests: ".", // tells a stranger who is a customer
		old: "\tif binding, err = p.validate(ctx); err != nil {\n", new: "\tif _, cerr := p.contest(ctx, bindingUnbound, shares); cerr != nil {\n\t\treturn nil, \"\", cerr\n\t}\n\tif binding, err = p.validate(ctx); err != nil {\n"},
	{name: "register-over-old-data", file: "register.go", tests: ".",
		old: "\t\t\t\tif !abandonData {\n", new: "\t\t\t\tif false {\n"},
	{name: "claim-falls-to-the-unbound", file: "claim.go", tests: ".",
		old: "if binding != bindingBound {", new: "if false {"},
	{name: "claim-falls-unprobed", file: "claim.go", tests: ".",
		old: "if p.refused(ctx, old) != probeRefused || p.refused(ctx, own) != probeAllowed {", new: "if false {"},
	{name: "claim-falls-twice", file: "claim.go", tests: "TestClaim",
		old: "if now.revision != h.revision {", new: "if false {"},
	{name: "claim-falls-in-doubt", file: "claim.go", tests: "TestClaim",
		old: "p.refused(ctx, old) != probeRefused", new: "p.refused(ctx, old) == probeAllowed"},
	{name: "claim-released-by-another", file: "claim.go", tests: "TestClaim",
		old: "\t\tif h.tenant == tenant {\n", new: "\t\tif true {\n"},
	{name: "rotate-without-validation", file: "rotate.go", tests: ".",
		old: "append(event.Calls, q.calls...), q.witness().request\n\tif err != nil {\n\t\treturn nil, err\n\t}\n", new: "append(event.Calls, q.calls...), q.witness().request\n"},
	{name: "rotate-by-two", file: "rotate.go", tests: ".",
		old: "\t\ts.Generation++\n", new: "\t\ts.Generation += 2\n"},

	{name: "schedule-each-process-rotates", file: "rotate.go", tests: "TestSchedule_",
		old: "if after != 0 && s.Generation != after {", new: "if false {"},
	{name: "schedule-later-by-chance", file: "schedule.go", tests: "TestSchedule_",
		old: "age-time.Duration(part(sum[:8], int64(age/10)))", new: "age+time.Duration(part(sum[:8], int64(age/10)))"},
	{name: "schedule-all-at-once", file: "schedule.go", tests: "TestSchedule_",
		old: "sum := sha256.Sum256([]byte(tenant + last.UTC().String()))\n\treturn now", new: "sum := sha256.Sum256(nil)\n\treturn now"},
}
