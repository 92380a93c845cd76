package dynamostore

import "time"

// ErrOutcome: see there.
var ErrOutcome = errOutcome

// Hurry makes a Store repeat its requests at once, nearly: for tests in which many fail.
func (s *Store) Hurry() { s.firstWait = 100 * time.Microsecond }
