package main

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/byok-go/byok/byokhttp"
)

// tokenEntry is one line of the -tokens file. Without scopes a token may do
// everything; with an empty list, nothing.
type tokenEntry struct {
	SHA256         string   `json:"token_sha256"`
	OrganizationID string   `json:"organization_id"`
	Actor          string   `json:"actor"`
	Scopes         []string `json:"scopes"`
}

type lookup = func(context.Context, [32]byte) (byokhttp.Identity, bool, error)

// tokens returns the look-up of the -tokens file, or of the demo's organizations.
func (a *app) tokens(ctx context.Context) (lookup, error) {
	if !a.config.demo() {
		data, err := os.ReadFile(a.config.tokens)
		if err != nil {
			return nil, err
		}
		entries, err := parseTokens(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.config.tokens, err)
		}
		return newLookup(entries), nil
	}
	var err error
	if a.demo, err = loadDemo(a.config.data, a.fake, a.keeper); err != nil {
		return nil, err
	}
	return newLookup(a.demo.tokens()), nil
}

type knownToken struct {
	hash [32]byte
	id   byokhttp.Identity
}

func parseTokens(data []byte) ([]knownToken, error) {
	var entries []tokenEntry
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&entries); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the list")
	}
	var known []knownToken
	seen := make(map[[32]byte]bool)
	for i, e := range entries {
		k := knownToken{id: byokhttp.Identity{Tenant: e.OrganizationID, Actor: e.Actor, Scopes: e.Scopes}}
		n, err := hex.Decode(k.hash[:], []byte(e.SHA256[:min(len(e.SHA256), 64)]))
		switch {
		case err != nil || n != 32 || len(e.SHA256) != 64:
			return nil, fmt.Errorf("entry %d: token_sha256 must be 64 hex digits", i)
		case e.OrganizationID == "" || e.Actor == "":
			return nil, fmt.Errorf("entry %d: organization_id and actor are required", i)
		case seen[k.hash]:
			return nil, fmt.Errorf("entry %d: this token_sha256 is there twice", i)
		}
		seen[k.hash] = true
		known = append(known, k)
	}
	if known == nil {
		return nil, errors.New("no tokens")
	}
	return known, nil
}

// newLookup compares with every hash, each in constant time. A platform with
// many tokens would look the hash up in its database.
func newLookup(known []knownToken) lookup {
	return func(_ context.Context, hash [32]byte) (byokhttp.Identity, bool, error) {
		var id byokhttp.Identity
		found := false
		for i := range known {
			if subtle.ConstantTimeCompare(known[i].hash[:], hash[:]) == 1 {
				id, found = known[i].id, true
			}
		}
		return id, found, nil
	}
}
