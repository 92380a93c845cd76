package byok_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// specTests are the tests of each requirement of SPEC.md, by package.
var specTests = map[string]string{
	"MUST-1":  ".: TestVectors, TestA23_A24_B6_B7_B10_B11_B12_B13_MalformedHeaders; internal/format: TestEachRuleOfTheParser",
	"MUST-2":  ".: TestVectors, TestA23_A24_B6_B7_B10_B11_B12_B13_MalformedHeaders; internal/format: TestEachRuleOfTheParser, TestLimitsAreInclusive",
	"MUST-3":  ".: TestVectors; internal/format: TestEachRuleOfTheParser, TestOrderComparesThePartsApart",
	"MUST-4":  ".: TestVectors; internal/format: TestEachRuleOfTheParser, TestEveryPrefixIsRefused",
	"MUST-5":  "internal/format: TestParseThenEncodeIsTheIdentityOrParseFails, FuzzB15_Parse; integration: TestB14_TwoReaders",
	"MUST-6":  "internal/format: TestLyingLengthsAllocateNothing, TestReadIsBounded",
	"MUST-7":  ".: TestVectors; internal/format: TestEachRuleOfTheParser",
	"MUST-8":  "internal/format: TestAppendRefusesWhatParseRefuses, TestEncodeThenParseIsTheIdentity",
	"MUST-9":  ".: TestJ1_ReplacedReader, TestJ3_NothingRepeats; internal/random: TestJ1_CapturedAtInit",
	"MUST-10": ".: TestJ6_OneUseOfHMAC, TestE9_NamesDoNotRunTogether; internal/floe: TestC5_J7_ForbiddenCalls, TestAgreesWithTheLiteralSpecification",
	"MUST-11": ".: TestStreams_A21_Boundaries; internal/floe: TestRoundTripAtEveryBoundary, TestAlignedMessageEndsInAFullSegment, TestStreamsAgreeWithOneShot",
	"MUST-12": ".: TestStreams_A19_FailingDestination; internal/floe: TestWriterWithoutCloseNeverOpens",
	"MUST-13": ".: TestOnlyTheTenantsKeyIsARecipient, TestMUST13_AnyKeyAlone",
	"MUST-14": ".: TestOrderOfChecks, TestA11_NothingIsAskedForAHopelessPayload, TestA1_A2_OpenRefusesJunk",
	"MUST-15": ".: TestD1_ForeignCMK, TestTamperedJobs, TestRewrapAfterMove, TestRecipientsAndPolicies, TestB9_OldRecipients, TestFromOneKeyToAll",
	"MUST-16": ".: TestDenyWins, TestSeveralKeysTable, TestI10_DenialByAnyKeyStopsAll",
	"MUST-17": ".: TestVectors; internal/floe: TestC3_CommitmentCanary, TestC1_C2_InvisibleSalamanders, TestC5_J7_ForbiddenCalls",
	"MUST-18": ".: TestVectors, TestA3_A4_A5_A6_A7_A8_SegmentsOutOfPlace; internal/floe: TestWrongKeyAndWrongContextGiveOneError; byokhttp: TestErrorMalformedIsInauthentic_A25",
	"MUST-19": ".: TestA3_A4_A5_A6_A7_A8_SegmentsOutOfPlace, TestStreams_A13_A14_OnlyAuthenticSegments; internal/floe: TestFLOECases, TestReaderProbesForTrailingData, TestReaderErrorIsSticky",
	"MUST-20": ".: TestStreams_A16_RandomAccess; internal/floe: TestA17_NoPositionFromOutside, TestPositionAndFinalFlagAreAuthenticated",
	"MUST-21": ".: TestDEK, TestVectors; awskms: TestD2_C8_D16_WrongAnswers; internal/floe: TestJ6_ShortKeys; internal/shares: TestMUST21_Refused",
	"MUST-22": ".: TestB8_C4_RecipientsChanged, TestRewrap",
	"MUST-23": ".: TestRewrapProvesByUse",
	"MUST-24": ".: TestVectors, TestA9_A10_A12_LengthsAndSizes, TestA11_NothingIsAskedForAHopelessPayload; internal/floe: TestOnlyThreeSegmentSizesAreOpened",
	"MUST-25": ".: TestVectors; integration: TestReferenceReader",
	"MUST-26": ".: TestVectors, TestArguments, TestB5_LongestAAD; internal/format: TestB3_Names",
	"MUST-27": ".: TestVectors, TestVectorsByAKeeper, TestVectorsAreAppendOnly; integration: TestReferenceReader",
	"MUST-28": ".: TestI15_SumOverProcesses, TestE17_I15_RollsOver, TestI15_LongOperationAlone",
}

// unbound are requirements of functions that this release does not have.
var unbound = map[string]*regexp.Regexp{}

var (
	requirement = regexp.MustCompile(`(?m)^- \*\*(MUST-\d+)\*\*`)
	mustWord    = regexp.MustCompile(`\bMUST\b`)
	numbered    = regexp.MustCompile(`MUST-\d+`)
)

// checkSpec returns what is wrong between SPEC.md, the table above, and the tests there are.
func checkSpec(spec string, tests map[string]string, exists map[testID]bool) (wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	head, rest, _ := strings.Cut(spec, "\n## Requirements\n")
	section, tail, ok := strings.Cut(rest, "\n## ")
	if !ok {
		bad("no section Requirements")
	}
	var rules []string
	for _, m := range requirement.FindAllStringSubmatch(section, -1) {
		if slices.Contains(rules, m[1]) {
			bad("%s is there twice", m[1])
		}
		rules = append(rules, m[1])
	}
	for n := range rules { // no number is skipped, or was taken away
		if r := fmt.Sprintf("MUST-%d", n+1); !slices.Contains(rules, r) {
			bad("there is no %s", r)
		}
	}
	for _, r := range rules {
		if tests[r] == "" && unbound[r] == nil {
			bad("%s has no test", r)
		}
	}
	for r, list := range tests {
		if !slices.Contains(rules, r) {
			bad("tests of %s, which SPEC.md does not have", r)
		}
		for group := range strings.SplitSeq(list, "; ") {
			dir, names, _ := strings.Cut(group, ": ")
			for name := range strings.SplitSeq(names, ", ") {
				if !exists[testID{dir, name}] {
					bad("%s: there is no %s in %s", r, name, dir)
				}
			}
		}
	}
	_, head, _ = strings.Cut(head, "\n## ") // the introduction says what the word means
	for _, other := range []string{head, tail} {
		for _, r := range numbered.FindAllString(other, -1) {
			if !slices.Contains(rules, r) {
				bad("SPEC.md refers to %s", r)
			}
		}
		if mustWord.MatchString(numbered.ReplaceAllString(other, "")) {
			bad("a MUST without a number")
		}
	}
	return wrong
}

// Every numbered MUST of SPEC.md has a test that exists, and every MUST has a number.
func TestSpecRequirements(t *testing.T) {
	spec, err := os.ReadFile("SPEC.md")
	want(t, "ReadFile", err, nil)
	exists := allTests(t)
	for _, w := range checkSpec(string(spec), specTests, exists) {
		t.Error(w)
	}
	names, err := filepath.Glob("*.go")
	want(t, "Glob", err, nil)
	var source []byte
	for _, name := range names {
		if !strings.HasSuffix(name, "_test.go") {
			b, err := os.ReadFile(name)
			want(t, "ReadFile", err, nil)
			source = append(source, b...)
		}
	}
	if len(source) < 100_000 {
		t.Errorf("%d bytes of source: this test could pass on nothing", len(source))
	}
	for r, function := range unbound {
		if m := function.Find(source); m != nil {
			t.Errorf("%s has no test, and there is %q", r, m)
		}
	}

	// What the check notices.
	without := maps.Clone(specTests)
	delete(without, "MUST-16")
	for name, got := range map[string][]string{
		"a requirement without a test": checkSpec(string(spec), without, exists),
		"a new requirement":            checkSpec(strings.Replace(string(spec), "- **MUST-22**", "- **MUST-29** MUST\n- **MUST-22**", 1), specTests, exists),
		"a requirement taken away":     checkSpec(strings.Replace(string(spec), "- **MUST-22**", "-", 1), specTests, exists),
		"a MUST without a number":      checkSpec(strings.Replace(string(spec), "## Rationale", "## Rationale\n\nIt MUST be so.", 1), specTests, exists),
		"tests that are gone":          checkSpec(string(spec), specTests, map[testID]bool{}),
	} {
		if len(got) == 0 {
			t.Errorf("nobody notices %s", name)
		}
	}
}

// SPEC MUST-13: what is sealed names the tenant's registered key as the only recipient.
func TestOnlyTheTenantsKeyIsARecipient(t *testing.T) {
	env := byoktest.New(t, nil)
	_, cmk := env.Tenant("acme")
	env.Tenant("umbrella")
	alone, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
	want(t, "New", err, nil)
	defer alone.Close()
	var stream bytes.Buffer
	w, err := env.Keeper.SealWriter(t.Context(), &stream, acmeScope, nil)
	want(t, "SealWriter", err, nil)
	want(t, "Close", w.Close(), nil)
	for name, sealed := range map[string][]byte{"per operation": seal(t, alone, "acme", "x", ""), "stream": stream.Bytes()} {
		h, err := byok.Inspect(sealed)
		want(t, name, err, nil)
		if len(h.Recipients) != 1 || h.Recipients[0].Key.ID != cmk.ARN() {
			t.Errorf("%s: recipients %+v", name, h.Recipients)
		}
	}
}
