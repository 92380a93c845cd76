// Package storecheck holds what every Store and AuditSink of this repository
// must agree on: which arguments are refused, how events are ordered, and what a
// cursor looks like. It cannot import package byok, which uses it; callers wrap
// its errors in byok.ErrArgument. Its errors never hold a value that they refuse.
//
// Package sqlstore is a module of its own and may be older than this one in
// somebody's build: do not remove or change what is here, only add.
package storecheck

import (
	"errors"
	"fmt"
)

// The limits of the contracts of Store and AuditReader; a test in package byok
// holds those of Store equal to the exported constants.
const (
	MaxRefPart     = 255
	MaxItemValue   = 64 << 10
	MaxApplyWrites = 25
	MaxListLimit   = 1000

	DefaultAuditLimit = 100
	MaxAuditLimit     = 1000
)

// Part checks a partition or an ID.
func Part(s string) error {
	if len(s) < 1 || len(s) > MaxRefPart {
		return fmt.Errorf("a partition or id has %d bytes, not 1 to %d", len(s), MaxRefPart)
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return fmt.Errorf("byte %d of a partition or id is outside 0x21..0x7e", i)
		}
	}
	return nil
}

// Ref checks both halves of a Ref.
func Ref(partition, id string) error {
	if err := Part(partition); err != nil {
		return err
	}
	return Part(id)
}

// List checks the arguments of a List. after may be empty, or else must look
// like an ID: a database with typed text could not compare anything else.
func List(partition, after string, limit int) error {
	if limit < 1 || limit > MaxListLimit {
		return fmt.Errorf("a list limit is 1 to %d", MaxListLimit)
	}
	if after != "" {
		if err := Part(after); err != nil {
			return err
		}
	}
	return Part(partition)
}

// Apply checks n writes; at returns the Ref and the value of write i.
func Apply(n int, at func(i int) (partition, id string, value []byte)) error {
	if n < 1 || n > MaxApplyWrites {
		return fmt.Errorf("%d writes, not 1 to %d", n, MaxApplyWrites)
	}
	seen := make(map[[2]string]struct{}, n)
	for i := range n {
		partition, id, value := at(i)
		if err := Ref(partition, id); err != nil {
			return err
		}
		if len(value) < 1 || len(value) > MaxItemValue {
			return fmt.Errorf("a value has %d bytes, not 1 to %d", len(value), MaxItemValue)
		}
		key := [2]string{partition, id}
		if _, dup := seen[key]; dup {
			return errors.New("an item is written twice")
		}
		seen[key] = struct{}{}
	}
	return nil
}

// AuditLimit is the number of events in a page of a query.
func AuditLimit(limit int) (int, error) {
	if limit == 0 {
		return DefaultAuditLimit, nil
	}
	if limit < 1 || limit > MaxAuditLimit {
		return 0, fmt.Errorf("an audit limit is 1 to %d", MaxAuditLimit)
	}
	return limit, nil
}
