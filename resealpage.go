package byok

import (
	"fmt"
	"strconv"
)

// oddPages is how many pages of keys that cannot be are passed by in one step.
const oddPages = 100

// readPage reads the next records behind a key, and checks that they are a page: what would be passed over for ever is an error. The order of keys
// is the Source's own.
//
// A key that cannot be one, with a line's end in it, say, must not stop the job: whoever may name a file could. But no cursor can stand on it. So
// what comes back is either records up to the next such key; or those keys, as failures, and the one record behind them, with
// which they count. It is none at the end.
func readPage[T any](after string, limit int, read func(after string) ([]T, error), keyOf func(*T) string) (page []T, odd []RecordFailure, err error) {
	for range oddPages {
		all, err := read(after)
		switch {
		case err != nil:
			return nil, nil, err
		case len(all) > limit:
			return nil, nil, fmt.Errorf("%w: the source returned %d records, and %d were asked for", ErrArgument, len(all), limit)
		case len(all) == 0:
			return nil, odd, nil
		}
		end := -1 // of the page
		for i := range all {
			key := keyOf(&all[i])
			if key == "" || key == after {
				return nil, nil, fmt.Errorf("%w: the source returned the key %s, and before it the same", ErrArgument, oddKey(key))
			}
			after = key
			switch bad := checkRecordKey(key); {
			case end >= 0: // it only has to be another one than the one before
			case bad == nil && len(odd) > 0:
				page, end = all[i:i+1], i
			case bad != nil && i > 0 && len(odd) == 0:
				page, end = all[:i], i
			case bad != nil:
				odd = append(odd, RecordFailure{Key: oddKey(key), Code: Code(bad), Why: bad.Error()})
			}
		}
		if end < 0 && len(odd) == 0 {
			page = all
		}
		if len(page) > 0 {
			return page, odd, nil
		}
	}
	return nil, nil, fmt.Errorf("%w: %d records in a row have no key that can be one, after %s", ErrArgument, len(odd), odd[0].Key)
}

// oddKey is a key that cannot be one, as it is told. It is cut as keys are.
func oddKey(key string) string {
	text := strconv.QuoteToASCII(key)
	return text[:min(len(text), MaxRecordKey)]
}

// passBy counts records with keys that cannot be.
func (r *Resealer) passBy(c *resealCursor, odd []RecordFailure) {
	for _, f := range odd {
		r.failed(c, f)
		c.Looked++
	}
}
