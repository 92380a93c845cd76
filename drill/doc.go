// Package drill shows, on a running platform, that a tenant's stop is a stop. It
// measures what byok promises instead of believing it.
//
// [Revoke] starts a few workers, each with a Keeper of its own on the platform's
// Store. They seal and open canary records, steadily, until all of them are
// well. Then the CMK is denied: by a function on a fake KMS, by a person on a
// real one. Revoke watches what the workers still get, has access given back,
// and measures how long they take to recover. The [Report] has a verdict and
// every number behind it, for machines as JSON and for people on a page.
//
// # What it touches
//
// For a minute or two the tenant is blocked, all of it: the platform's own
// processes are refused like the workers. So the tenant must be marked with
// [byok.Tenant.SetDrillable], or [Config.BlockTenant] must be set.
//
// The canaries have [Purpose] as their purpose, and so a data key of their own,
// which stays in the Store. They are kept in memory only. No record of the
// platform is opened, changed or counted. Each canary that is sealed or opened
// leaves an event in the tenant's audit log, by [Actor]: some 20 a second for
// each worker.
//
// # What it does not show
//
// Only its own workers are measured, at the MaxAge that they were given, on the
// machines on which they run. Give them the platform's MaxAge, its Store and its
// role; then they are what the platform's own processes are.
package drill
