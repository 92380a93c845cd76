package byokhttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxBody is the largest request body that is read.
const MaxBody = 64 << 10

func badRequest(format string, args ...any) error {
	return &Problem{Status: http.StatusBadRequest, Code: codeRequest, Detail: fmt.Sprintf(format, args...)}
}

// readBody reads a JSON body, of bounded size.
func readBody(r *http.Request) ([]byte, error) {
	tooLarge := &Problem{Status: http.StatusRequestEntityTooLarge, Code: codeRequest, Detail: "The body is larger than 64 KiB."}
	// Before anything is read: a body that is announced may never come.
	if r.ContentLength > MaxBody {
		return nil, tooLarge
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset, given := params["charset"]
	if err != nil || kind != "application/json" || len(r.Header.Values("Content-Type")) != 1 ||
		given && !strings.EqualFold(charset, "utf-8") || r.Header.Get("Content-Encoding") != "" {
		return nil, &Problem{Status: http.StatusUnsupportedMediaType, Code: codeRequest, Detail: "The body must be application/json in UTF-8, without a Content-Encoding."}
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if len(b) > MaxBody {
		return nil, tooLarge
	}
	if err != nil {
		return nil, badRequest("The body could not be read.")
	}
	return b, nil
}

// object is a JSON object whose members are strings, bools, numbers, null or short lists of strings: all
// that the contract needs. Any other nested value is refused when it begins, so nothing
// recurses however deep it goes.
type object map[string]any

// readObject reads the body strictly. encoding/json on a struct would not do: it
// takes the last of two members with one name, finds members without regard to
// case, and replaces what is not UTF-8. A known name that ends in "[]" is that of a list.
func readObject(r *http.Request, known ...string) (object, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(body) {
		return nil, badRequest("The body is not UTF-8.")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, badRequest("The body must be a JSON object.")
	}
	o := object{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, badRequest("The body is not valid JSON.")
		}
		list := slices.Contains(known, name+"[]")
		if !list && !slices.Contains(known, name) || strings.HasSuffix(name, "[]") {
			return nil, badRequest("The body has a member that this endpoint does not know. Known are: %s.", strings.ReplaceAll(strings.Join(known, ", "), "[]", ""))
		}
		if _, twice := o[name]; twice {
			return nil, badRequest("%s is given twice.", name)
		}
		v, err := d.Token()
		if err != nil {
			return nil, badRequest("The body is not valid JSON.")
		}
		if v == json.Delim('[') && list {
			if o[name], err = readList(d, name); err != nil {
				return nil, err
			}
			continue
		}
		if _, nested := v.(json.Delim); nested {
			return nil, badRequest("%s must be neither an object nor an array.", name)
		}
		o[name] = v
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, badRequest("The body is not valid JSON.")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, badRequest("The body has something after its JSON object.")
	}
	return o, nil
}

// maxList is how long a list may be: one longer than any that is accepted.
const maxList = 8

// readList reads a list of strings, whose bracket has been read.
func readList(d *json.Decoder, name string) ([]string, error) {
	out := []string{}
	for d.More() {
		t, err := d.Token()
		s, ok := t.(string)
		switch {
		case err != nil:
			return nil, badRequest("The body is not valid JSON.")
		case !ok || len(out) == maxList:
			return nil, badRequest("%s must be a list of at most %d strings.", name, maxList)
		}
		out = append(out, s)
	}
	if _, err := d.Token(); err != nil {
		return nil, badRequest("The body is not valid JSON.")
	}
	return out, nil
}

// texts returns a member that is a list of strings of at most limit bytes each; none if it is not there.
func (o object) texts(name string, limit int) ([]string, error) {
	v, ok := o[name]
	if !ok {
		return nil, nil
	}
	list, ok := v.([]string)
	if !ok {
		return nil, badRequest("%s must be a list.", name)
	}
	for _, s := range list {
		if _, err := (object{name: s}).text(name, limit); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// text returns a string member of at most limit bytes; "" if it is not there.
func (o object) text(name string, limit int) (string, error) {
	v, ok := o[name]
	if !ok {
		return "", nil
	}
	s, ok := v.(string)
	if !ok {
		return "", badRequest("%s must be a string.", name)
	}
	if len(s) > limit {
		return "", badRequest("%s is longer than %d bytes.", name, limit)
	}
	if strings.ContainsFunc(s, unicode.IsControl) { // it will stand in logs
		return "", badRequest("%s must not contain control characters.", name)
	}
	return s, nil
}

// flag returns a boolean member; false if it is not there.
func (o object) flag(name string) (bool, error) {
	v, ok := o[name]
	if !ok {
		return false, nil
	}
	b, ok := v.(bool)
	if !ok {
		return false, badRequest("%s must be true or false.", name)
	}
	return b, nil
}

// checkQuery refuses parameters that the route does not have, since a client
// that sends one believes that it does something, and those given twice.
func checkQuery(r *http.Request, known []string) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return badRequest("The query is malformed.")
	}
	for name, values := range q {
		if !slices.Contains(known, name) {
			return badRequest("The query has a parameter that this endpoint does not know.")
		}
		if len(values) != 1 {
			return badRequest("%s is given twice.", name)
		}
	}
	return nil
}
