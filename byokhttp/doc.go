// Package byokhttp serves the control plane of a [byok.Keeper] over REST: the
// endpoints with which a platform's customer registers a customer-managed key
// (CMK), acknowledges the legal waiver, rotates, checks, audits and revokes.
//
//	api, err := byokhttp.New(keeper, byokhttp.Bearer(lookup), nil)
//	mux.Handle("/api/v1/byok/", http.StripPrefix("/api/v1/byok", api))
//
// The tenant and the actor come from the [Authenticator] and from nowhere else:
// no path, query or body names a tenant, so there is none to confuse.
//
//	POST   /keys                      register a CMK
//	GET    /keys                      status of the key
//	DELETE /keys                      remove it: data operations stop
//	GET    /keys/data-keys            which CMKs have wrapped how many data keys
//	POST   /keys/rotate               new data keys for new data
//	GET    /keys/rotate/{id}          how far a rotation or a re-sealing is; DELETE cancels it
//	POST   /keys/move                 to another CMK, or several
//	GET    /keys/move/{id}            how far the move is; DELETE cancels it
//	GET    /health                    is the key usable now; asks KMS
//	GET    /audit                     the tenant's audit log, newest first
//	GET    /legal-waiver              the text to acknowledge
//	POST   /legal-waiver/acknowledge  acknowledge it
//	GET    /legal-waiver/status       has it been acknowledged
//
// Requests are read strictly: a JSON object with known members, each once, each
// of its type, in a body of at most 64 KiB. Errors are RFC 9457 problems with a
// stable code; what they say is text of this package, so that nothing of
// KMS, of a database or of another tenant can leak through them: fixed, but for
// names of parameters, limits, and why a key id is not accepted. README.md
// lists the codes. [Error] answers the same way from the platform's own handlers.
//
// The handler keeps rate limits in memory, per process. It sets no timeouts:
// those are http.Server's, and a server needs all four of them. It starts no
// goroutine: run [byok.Keeper.Run] beside it, so that events which the audit sink
// missed reach it.
package byokhttp
