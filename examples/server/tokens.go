package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

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

// knownScopes are all that this server's routes ask for.
var knownScopes = []string{byokhttp.ScopeRead, byokhttp.ScopeAdmin, byokhttp.ScopeMove, scopeRead, scopeWrite}

type lookup = func(context.Context, [32]byte) (byokhttp.Identity, bool, error)

// readTokens reads the -tokens file.
func readTokens(file string) ([]knownToken, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	known, err := parseTokens(data)
	if err != nil {
		return nil, fmt.Errorf("-tokens %s: %w", file, err)
	}
	return known, nil
}

type knownToken struct {
	hash [32]byte
	id   byokhttp.Identity
}

// parseTokens refuses whatever could never work: it would look like a customer's
// mistake, months later.
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
		case k.hash == sha256.Sum256(nil) || k.hash == [32]byte{}:
			return nil, fmt.Errorf("entry %d: token_sha256 is of no token", i)
		case !isOrganization(e.OrganizationID):
			return nil, fmt.Errorf("entry %d: organization_id must be 1 to 128 printable ASCII characters without spaces", i)
		case e.Actor == "":
			return nil, fmt.Errorf("entry %d: actor is required", i)
		case seen[k.hash]:
			return nil, fmt.Errorf("entry %d: this token_sha256 is there twice", i)
		}
		for _, scope := range e.Scopes {
			if !slices.Contains(knownScopes, scope) {
				return nil, fmt.Errorf("entry %d: %q is none of the scopes %s", i, scope, strings.Join(knownScopes, ", "))
			}
		}
		seen[k.hash] = true
		known = append(known, k)
	}
	if known == nil {
		return nil, errors.New("no tokens")
	}
	return known, nil
}

// isOrganization reports whether byok takes s as a tenant: bytes 0x21..0x7e.
func isOrganization(s string) bool {
	return len(s) >= 1 && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e })
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
