package sqltable

// Queries returns the statements that read pages, and steps.
func Queries(s *Source) []string {
	return []string{s.sql.page(false, false), s.sql.page(true, false), s.sql.page(true, true), s.sql.step(false), s.sql.step(true), s.sql.replace}
}
