package kmsfake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// plainText is a result for people.
type plainText string

// controlRoutes are the controls, in the order in which GET / lists them.
var controlRoutes []controlRoute

type controlRoute struct {
	method, path string
	body         bool   // takes JSON
	says         string // for the list
	do           control
}

func init() { // not where it is declared: the list is among what it lists
	controlRoutes = []controlRoute{
		{"GET", "{$}", false, "this list, and the weather", listControls},
		{"POST", "reset", false, "a KMS that was just made: no keys, no access keys, no faults, no calls", func(f *KMS, _ *http.Request, _ []byte) (any, error) {
			return nil, f.reset()
		}},
		{"GET", "faults", false, "the faults that are left", listFaults},
		{"POST", "faults", true, `add a fault: {"Operation": "Decrypt", "Code": "ThrottlingException", "Count": 3}; answers its ID`, addFault},
		{"DELETE", "faults", false, "remove all faults", func(f *KMS, _ *http.Request, _ []byte) (any, error) {
			return nil, f.apply(func() bool { f.faults = nil; return false })
		}},
		{"DELETE", "faults/{id}", false, "remove one fault", removeFault},
		{"PUT", "latency", true, `each call takes: {"Latency": "100ms"}`, setWeather(func(f *KMS, v *struct{ Latency duration }) error {
			f.latency = time.Duration(v.Latency)
			return nil
		})},
		{"PUT", "outage", true, `nobody answers, or they do again: {"Outage": true}`, setWeather(func(f *KMS, v *struct{ Outage bool }) error {
			f.resets++ // whoever began an outage in process does not end this one
			f.outages = map[bool]int{true: 1}[v.Outage]
			return nil
		})},
		{"PUT", "propagation", true, `changes of policies, states and grants take: {"Delay": "30s"}`, setWeather(func(f *KMS, v *struct{ Delay duration }) error {
			f.propagation = time.Duration(v.Delay)
			f.watch()
			return nil
		})},
		{"PUT", "throttle", true, `quota of each account and Region: {"RequestsPerSecond": 100}; 0 is none, -1 AWS's`, setWeather(func(f *KMS, v *struct{ RequestsPerSecond int }) error {
			if v.RequestsPerSecond < AWSQuota {
				return errors.New("RequestsPerSecond is -1, 0 or more")
			}
			f.quota, f.buckets = v.RequestsPerSecond, nil
			return nil
		})},
		{"GET", "clock", false, "the time in the service", func(f *KMS, _ *http.Request, _ []byte) (any, error) {
			return map[string]time.Time{"Now": f.now().UTC()}, nil
		}},
		{"PUT", "clock", true, `set the time: {"Now": "2030-01-02T03:04:05Z"}`, func(f *KMS, _ *http.Request, body []byte) (any, error) {
			var v struct{ Now time.Time }
			if err := strictJSON(body, &v); err != nil {
				return nil, err
			}
			return nil, f.setClock(v.Now)
		}},
		{"POST", "clock/advance", true, `move the time forward: {"By": "168h"}`, func(f *KMS, _ *http.Request, body []byte) (any, error) {
			var v struct{ By duration }
			if err := strictJSON(body, &v); err != nil {
				return nil, err
			}
			return nil, f.advanceClock(time.Duration(v.By))
		}},
		{"GET", "calls", false, "the calls so far", func(f *KMS, _ *http.Request, _ []byte) (any, error) {
			return append([]Call{}, f.Calls()...), nil
		}},
		{"DELETE", "calls", false, "forget the calls so far", func(f *KMS, _ *http.Request, _ []byte) (any, error) {
			f.ResetCalls()
			return nil, nil
		}},
		{"GET", "explain/{requestID}", false, "why a call was answered as it was; last is the last one that failed, ?format=text is for people", explainCall},
		{"GET", "cloudtrail/{account}", false, "an account's CloudTrail: {\"Records\": [...]}", func(f *KMS, req *http.Request, _ []byte) (any, error) {
			id := req.PathValue("account")
			if !isAccount(id) {
				return nil, fmt.Errorf("%q is not an account id", id)
			}
			a := &Account{f: f, id: id, region: DefaultRegion}
			return map[string][]CloudTrailEvent{"Records": a.CloudTrail()}, nil
		}},
		{"GET", "access-keys", false, "the registered access keys, without secrets", listAccessKeys},
		{"PUT", "access-keys/{id}", true, `whose an access key is: {"Principal": ARN, "Secret": "...", "Session": {"Tags": {...}}}; only Principal is required`, putAccessKey},
		{"DELETE", "access-keys/{id}", false, "forget an access key", deleteAccessKey},
		{"POST", "identity-policies", true, `attach an identity policy: {"Principal": ARN, "Policy": {...}}`, addIdentityPolicy},
		{"DELETE", "identity-policies", true, `detach all of a principal: {"Principal": ARN}`, func(f *KMS, _ *http.Request, body []byte) (any, error) {
			var v struct{ Principal string }
			if err := strictJSON(body, &v); err != nil {
				return nil, err
			}
			return nil, f.deleteIdentityPolicies(v.Principal)
		}},
	}
}

func listControls(f *KMS, _ *http.Request, _ []byte) (any, error) {
	type line struct{ Request, Does string }
	var out struct {
		KMSFake  string
		Weather  map[string]any
		Controls []line
	}
	out.KMSFake = "an AWS KMS for tests; it protects nothing"
	for _, r := range controlRoutes {
		path := r.path
		if path == "{$}" {
			path = ""
		}
		out.Controls = append(out.Controls, line{r.method + " " + controlsPath + path, r.says})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out.Weather = map[string]any{"Faults": len(f.faults), "Outage": f.outages > 0, "Latency": f.latency.String(),
		"Propagation": f.propagation.String(), "RequestsPerSecond": f.quota, "Now": f.now().UTC()}
	return out, nil
}

// numberedFault is a fault as the controls tell of it.
type numberedFault struct {
	ID uint64
	Fault
}

func listFaults(f *KMS, _ *http.Request, _ []byte) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []numberedFault{}
	for _, a := range f.faults {
		fault := a.Fault
		fault.Count = max(a.left, 0) // what is left of it
		out = append(out, numberedFault{a.id, fault})
	}
	return out, nil
}

// maxFaults bounds what each call is compared with.
const maxFaults = 1000

func addFault(f *KMS, _ *http.Request, body []byte) (any, error) {
	var fault Fault
	if err := strictJSON(body, &fault); err != nil {
		return nil, err
	}
	if err := fault.check(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.faults) >= maxFaults {
		return nil, fmt.Errorf("there are %d faults; remove some", len(f.faults))
	}
	return numberedFault{f.inject(fault), fault}, nil
}

func removeFault(f *KMS, req *http.Request, _ []byte) (any, error) {
	id, err := strconv.ParseUint(req.PathValue("id"), 10, 64)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || !f.removeFault(id) {
		return nil, &controlError{http.StatusNotFound, "there is no such fault; one that has struck Count times is gone"}
	}
	return nil, nil
}

// setWeather is a control whose body has one value.
func setWeather[T any](set func(*KMS, *T) error) control {
	return func(f *KMS, _ *http.Request, body []byte) (any, error) {
		var v T
		if err := strictJSON(body, &v); err != nil {
			return nil, err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		return nil, set(f, &v)
	}
}

func explainCall(f *KMS, req *http.Request, _ []byte) (any, error) {
	id := req.PathValue("requestID")
	if id == "last" {
		calls := f.Calls()
		for _, c := range slices.Backward(calls) {
			if c.Code != "" && c.RequestID != "" {
				id = c.RequestID
				break
			}
		}
	}
	e := f.Explain(id)
	if e == nil {
		return nil, &controlError{http.StatusNotFound, "no such call, or it is not among the last ones any more"}
	}
	if req.URL.Query().Get("format") == "text" {
		return plainText(e.String() + "\n"), nil
	}
	return e, nil
}

func listAccessKeys(f *KMS, _ *http.Request, _ []byte) (any, error) {
	type entry struct {
		AccessKeyID, Principal string
		Verified               bool // it has a secret
		Session                *Session
	}
	out := []entry{}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, k := range f.st.AccessKeys {
		out = append(out, entry{id, k.Principal, k.Secret != "", k.Session})
	}
	slices.SortFunc(out, func(a, b entry) int { return bytes.Compare([]byte(a.AccessKeyID), []byte(b.AccessKeyID)) })
	return out, nil
}

func putAccessKey(f *KMS, req *http.Request, body []byte) (any, error) {
	var k accessKey
	if err := strictJSON(body, &k); err != nil {
		return nil, err
	}
	return nil, f.registerAccessKey(req.PathValue("id"), k)
}

func deleteAccessKey(f *KMS, req *http.Request, _ []byte) (any, error) {
	there := false
	err := f.apply(func() bool {
		_, there = f.st.AccessKeys[req.PathValue("id")]
		delete(f.st.AccessKeys, req.PathValue("id"))
		return there
	})
	if err == nil && !there {
		err = &controlError{http.StatusNotFound, "there is no such access key"}
	}
	return nil, err
}

func addIdentityPolicy(f *KMS, _ *http.Request, body []byte) (any, error) {
	var v struct {
		Principal string
		Policy    json.RawMessage
	}
	if err := strictJSON(body, &v); err != nil {
		return nil, err
	}
	document := string(v.Policy)
	if s, err := text(v.Policy); err == nil { // the document as a string, as AWS has it
		document = s
	}
	return nil, f.putIdentityPolicy(v.Principal, document)
}

// strictJSON decodes one JSON object: no member that does not exist or that
// comes twice, and nothing after it.
func strictJSON(body []byte, v any) error {
	if _, err := members(body); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one document")
	}
	return nil
}

func indented(v any) []byte {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("kmsfake: internal error: " + err.Error()) // of our own types
	}
	return append(data, '\n')
}

// duration is a time.Duration that JSON has as text: "1m30s". It is not negative.
type duration time.Duration

// UnmarshalText reads what time.ParseDuration does.
func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err == nil && v < 0 {
		err = fmt.Errorf("%v is negative", v)
	}
	*d = duration(v)
	return err
}
