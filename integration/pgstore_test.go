package integration

import (
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/storetest"
)

func TestG10_PostgresStoreContract(t *testing.T) {
	p := newPostgres(t)
	storetest.TestStore(t, func(t *testing.T) byok.Store { return p.store(t, p.newSchema(t)) })
}

func TestG10_PostgresSharedStoreContract(t *testing.T) {
	p := newPostgres(t)
	storetest.TestSharedStore(t, func(t *testing.T) func(*testing.T) byok.Store {
		schema := p.newSchema(t)
		return func(t *testing.T) byok.Store { return p.store(t, schema) }
	})
}

func TestG10_PostgresAuditContract(t *testing.T) {
	p := newPostgres(t)
	storetest.TestAudit(t, func(t *testing.T) byok.AuditSink { return p.store(t, p.newSchema(t)) })
	storetest.TestSharedAudit(t, func(t *testing.T) func(*testing.T) byok.AuditSink {
		schema := p.newSchema(t)
		return func(t *testing.T) byok.AuditSink { return p.store(t, schema) }
	})
}
