package awskms

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/byok-go/byok"
)

// Provider is the provider name of AWS KMS in a [byok.KeyID].
const Provider = "aws-kms"

// Key names the CMK with this key ARN. It does not check the ARN: every call
// does, and answers [byok.ErrKeyID].
func Key(arn string) byok.KeyID { return byok.KeyID{Provider: Provider, ID: arn} }

// keyARN is what the ARN of a KMS key says.
type keyARN struct {
	partition, region, account, resource string
}

func (a keyARN) multiRegion() bool { return strings.HasPrefix(a.resource, "mrk-") }

var (
	regionSyntax  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d$`)
	accountSyntax = regexp.MustCompile(`^\d{12}$`)
	keySyntax     = regexp.MustCompile(`^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)
)

// The reasons do not repeat the input: they go into logs and answers, and what
// was typed into a form has no business there.
var (
	errProvider    = errors.New("not a key of " + Provider)
	errNotARN      = errors.New("not a key ARN: want arn:aws:kms:REGION:ACCOUNT:key/KEY-ID")
	errAlias       = errors.New("an alias, which can be pointed at another key: use the key ARN")
	errKeyName     = errors.New("the key id in the ARN is not the lower-case id of a KMS key")
	errPartition   = errors.New("the partition is not allowed here")
	errRegion      = errors.New("the Region is unknown, or not allowed here")
	errClient      = errors.New("the key is in another Region than the client that was given")
	errAccountID   = errors.New("the account is not 12 digits")
	errAccount     = errors.New("the account is not allowed here")
	errMultiRegion = errors.New("multi-Region keys are not allowed here")
)

// parseARN accepts exactly the form in which KMS itself writes a key ARN. It is
// strict because the Region in it chooses the host that requests go to, and
// because two spellings of one key would be two keys to everybody else.
func parseARN(s string) (keyARN, error) {
	part := strings.Split(s, ":")
	if len(part) != 6 || part[0] != "arn" || part[2] != "kms" {
		return keyARN{}, errNotARN
	}
	a := keyARN{partition: part[1], region: part[3], account: part[4]}
	kind, resource, _ := strings.Cut(part[5], "/")
	a.resource = resource
	switch {
	case kind == "alias":
		return keyARN{}, errAlias
	case kind != "key":
		return keyARN{}, errNotARN
	case !keySyntax.MatchString(resource):
		return keyARN{}, errKeyName
	case !accountSyntax.MatchString(a.account):
		return keyARN{}, errAccountID
	case !regionSyntax.MatchString(a.region):
		return keyARN{}, errRegion
	}
	return a, nil
}

// limits is which keys a Keyring takes.
type limits struct {
	partitions  []string
	regions     []string // nil: all that are compiled in, of the partitions
	accounts    []string // nil: all
	multiRegion bool
	client      string // the Region of a client that was given; "": unknown, or one client per Region
}

// check is the answer to every key id that enters this package.
func (l *limits) check(key byok.KeyID) (keyARN, error) {
	if key.Provider != Provider {
		return keyARN{}, errProvider
	}
	a, err := parseARN(key.ID)
	switch {
	case err != nil:
		return keyARN{}, err
	case !slices.Contains(l.partitions, a.partition):
		return keyARN{}, errPartition
	case !slices.Contains(regionsOf[a.partition], a.region):
		return keyARN{}, errRegion
	case l.regions != nil && !slices.Contains(l.regions, a.region):
		return keyARN{}, errRegion
	case l.accounts != nil && !slices.Contains(l.accounts, a.account):
		return keyARN{}, errAccount
	case a.multiRegion() && !l.multiRegion:
		return keyARN{}, errMultiRegion
	case l.client != "" && a.region != l.client:
		return keyARN{}, errClient
	}
	return a, nil
}

func newLimits(o *Options) (l limits, err error) {
	l = limits{partitions: []string{"aws"}, multiRegion: o.AllowMultiRegion}
	if len(o.Partitions) > 0 {
		l.partitions = slices.Clone(o.Partitions)
	}
	for _, p := range l.partitions {
		if regionsOf[p] == nil {
			return l, fmt.Errorf("awskms: Options.Partitions: %q is not one of aws, aws-cn, aws-us-gov", p)
		}
	}
	for _, r := range o.Regions {
		if !l.knows(r) {
			return l, fmt.Errorf("awskms: Options.Regions: %q is not a Region of %s that this version knows",
				r, strings.Join(l.partitions, ", "))
		}
		l.regions = append(l.regions, r)
	}
	for _, a := range o.Accounts {
		if !accountSyntax.MatchString(a) {
			return l, fmt.Errorf("awskms: Options.Accounts: %q is not 12 digits", a)
		}
		l.accounts = append(l.accounts, a)
	}
	return l, nil
}

// allows reports whether keys of a Region can be accepted at all.
func (l *limits) allows(region string) bool {
	return l.knows(region) && (l.regions == nil || slices.Contains(l.regions, region))
}

// knows reports whether region is one of the allowed partitions'.
func (l *limits) knows(region string) bool {
	return slices.ContainsFunc(l.partitions, func(p string) bool { return slices.Contains(regionsOf[p], region) })
}

// regionsOf lists the Regions of each partition that can be allowed. The list is
// compiled in so that a Region out of an ARN never makes a host name that nobody
// has looked at; a new Region needs a new release. A test asks the SDK for the
// KMS endpoint of each.
var regionsOf = map[string][]string{
	"aws": {
		"af-south-1",
		"ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2",
		"ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7",
		"ca-central-1", "ca-west-1",
		"eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3",
		"il-central-1", "me-central-1", "me-south-1", "me-west-1",
		"mx-central-1", "sa-east-1", "sa-west-1",
		"us-east-1", "us-east-2", "us-west-1", "us-west-2",
	},
	"aws-cn":     {"cn-north-1", "cn-northwest-1"},
	"aws-us-gov": {"us-gov-east-1", "us-gov-west-1"},
}
