package drill_test

import (
	"testing"

	"github.com/byok-go/byok/internal/fipstest"
)

func TestMain(m *testing.M) { fipstest.Main(m) }
