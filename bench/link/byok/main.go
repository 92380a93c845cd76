// Command byok is the least that seals with a Keyring of one's own. Like its neighbours it is
// built to be weighed, by cmd/report, and never run.
package main

import (
	"context"

	"github.com/byok-go/byok"
)

var keys byok.Keyring

func main() {
	k, err := byok.New("bench.example.com", keys, new(byok.MemStore), new(byok.MemAudit), nil)
	if err == nil {
		_, err = k.Seal(context.Background(), byok.Scope{Tenant: "acme"}, nil, nil)
	}
	if err != nil {
		panic(err)
	}
}
