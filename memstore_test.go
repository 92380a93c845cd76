package byok_test

import (
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/storetest"
)

func TestMemStoreContract(t *testing.T) {
	storetest.TestStore(t, func(*testing.T) byok.Store { return new(byok.MemStore) })
}

func TestMemAuditContract(t *testing.T) {
	storetest.TestAudit(t, func(*testing.T) byok.AuditSink { return new(byok.MemAudit) })
}
