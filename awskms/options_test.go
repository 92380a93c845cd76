package awskms

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/logging"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/kmsfake"
)

func TestConstructorsRefuse(t *testing.T) {
	good := aws.Config{Credentials: static(accessKey, secretKey, "")}
	with := func(change func(*aws.Config)) aws.Config {
		cfg := good.Copy()
		change(&cfg)
		return cfg
	}
	loaded := func(endpoint string) aws.Config { // as config.LoadDefaultConfig leaves it
		return with(func(c *aws.Config) { c.BaseEndpoint = &endpoint; c.ConfigSources = []any{struct{}{}} })
	}
	for name, tt := range map[string]struct {
		cfg  aws.Config
		opts *Options
		want string // "": accepted
	}{
		"nil options":            {good, nil, ""},
		"no credentials":         {aws.Config{}, nil, "no credentials"},
		"credentials per tenant": {aws.Config{}, &Options{CredentialsFor: func(context.Context, string) (aws.CredentialsProvider, error) { return nil, nil }}, ""},
		"request bodies":         {with(func(c *aws.Config) { c.ClientLogMode = aws.LogRequestWithBody | aws.LogRetries }), nil, "logs bodies"},
		"response bodies":        {with(func(c *aws.Config) { c.ClientLogMode = aws.LogResponseWithBody }), nil, "logs bodies"},
		"request events":         {with(func(c *aws.Config) { c.ClientLogMode = aws.LogRequestEventMessage }), nil, "logs bodies"},
		"response events":        {with(func(c *aws.Config) { c.ClientLogMode = aws.LogResponseEventMessage }), nil, "logs bodies"},
		"bodies by the back door": {with(func(c *aws.Config) {
			c.ServiceOptions = append(c.ServiceOptions, func(_ string, o any) { o.(*kms.Options).ClientLogMode = aws.LogResponseWithBody })
		}), nil, "logs bodies"},
		"no bodies":                   {with(func(c *aws.Config) { c.ClientLogMode = aws.LogRequest | aws.LogResponse | aws.LogRetries }), nil, ""},
		"timeout, negative":           {good, &Options{AttemptTimeout: -1}, "AttemptTimeout"},
		"timeout, tiny":               {good, &Options{AttemptTimeout: time.Microsecond}, "AttemptTimeout"},
		"timeout, for ever":           {good, &Options{AttemptTimeout: 1<<63 - 1}, "AttemptTimeout"},
		"timeout, a minute":           {good, &Options{AttemptTimeout: time.Minute}, ""},
		"partition":                   {good, &Options{Partitions: []string{"aws", "aws-iso"}}, "Partitions"},
		"region, unknown":             {good, &Options{Regions: []string{"us-east-9"}}, "Regions"},
		"region, evil":                {good, &Options{Regions: []string{"us-east-1.evil.com#"}}, "Regions"},
		"region, another partition's": {good, &Options{Regions: []string{"cn-north-1"}}, "Regions"},
		"account":                     {good, &Options{Accounts: []string{"1111-2222-3333"}}, "Accounts"},
		"region for New":              {good, &Options{Region: "us-east-1"}, "NewFromClient"},
		"http in code":                {with(func(c *aws.Config) { c.BaseEndpoint = aws.String("http://127.0.0.1:4599") }), nil, ""},
		"http in Options":             {loaded("https://vpce.example"), &Options{Endpoint: "http://127.0.0.1:4599"}, ""},
		"D7 http, loaded":             {loaded("http://127.0.0.1:4599"), nil, "no TLS"},
		"https, loaded":               {loaded("https://vpce-1.kms.us-east-1.vpce.amazonaws.com"), nil, ""},
		"D7 file":                     {good, &Options{Endpoint: "file:///etc/passwd"}, "endpoint"},
		"D7 no scheme":                {good, &Options{Endpoint: "127.0.0.1:4599"}, "endpoint"},
		"D7 user":                     {good, &Options{Endpoint: "https://kms.amazonaws.com@evil.com"}, "endpoint"},
		"D7 ftp":                      {good, &Options{Endpoint: "ftp://kms"}, "endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := New(tt.cfg, tt.opts)
			switch {
			case tt.want == "" && (err != nil || k == nil):
				t.Errorf("refused: %v", err)
			case tt.want != "" && (err == nil || k != nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
	client := func(change func(*kms.Options)) *kms.Client { return realClient(nil, change) }
	none := func(context.Context, string) (aws.CredentialsProvider, error) { return nil, nil }
	for name, tt := range map[string]struct {
		client API
		opts   *Options
		want   string
	}{
		"nil":                        {nil, nil, "nil client"},
		"typed nil":                  {(*kms.Client)(nil), nil, "nil client"},
		"stub":                       {&stub{}, nil, ""},
		"stub with Region":           {&stub{}, &Options{Region: "eu-west-1"}, ""},
		"stub with bad Region":       {&stub{}, &Options{Region: "evil"}, "not allowed"},
		"bodies":                     {client(func(o *kms.Options) { o.ClientLogMode = aws.LogRequestWithBody }), nil, "logs bodies"},
		"other Region":               {client(func(*kms.Options) {}), &Options{Region: "eu-west-1"}, "eu-west-1"},
		"same Region":                {client(func(*kms.Options) {}), &Options{Region: "us-east-1"}, ""},
		"client's Region not listed": {client(func(*kms.Options) {}), &Options{Regions: []string{"eu-west-1"}}, "not allowed"},
		"client of China":            {client(func(o *kms.Options) { o.Region = "cn-north-1" }), nil, "not allowed"},
		"endpoint":                   {client(func(*kms.Options) {}), &Options{Endpoint: "https://x.example"}, "Endpoint"},
		"tenants on a stub":          {&stub{}, &Options{CredentialsFor: none}, "CredentialsFor"},
		"tenants":                    {client(func(*kms.Options) {}), &Options{CredentialsFor: none}, ""},
	} {
		t.Run("client/"+name, func(t *testing.T) {
			_, err := NewFromClient(tt.client, tt.opts)
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// A client whose log mode is changed after it was checked still logs no bodies:
// each call says so. (The SDK's own *kms.Client cannot be changed; what wraps one
// can.)
func TestBodiesAreNeverLogged(t *testing.T) {
	fake, key := newFake(t)
	cfg := onWire(t, fake)
	cfg.Region = "us-east-1"
	var logged strings.Builder
	var mu sync.Mutex
	cfg.Logger = logging.LoggerFunc(func(_ logging.Classification, format string, v ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&logged, format+"\n", v...)
	})
	cfg.ClientLogMode = aws.LogRequest | aws.LogResponse | aws.LogRequestWithBody | aws.LogResponseWithBody
	k := newFrom(t, struct{ API }{kms.NewFromConfig(cfg)}, nil) // hides Options from the constructor
	dek, w, err := k.GenerateDataKey(t.Context(), Key(key.ARN()), context4("acme"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.WrapDataKey(t.Context(), Key(key.ARN()), dek, context4("acme")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.UnwrapDataKey(t.Context(), Key(key.ARN()), w.Bytes, context4("acme")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(logged.String(), "TrentService.Decrypt") {
		t.Fatal("nothing was logged, so this shows nothing")
	}
	if strings.Contains(logged.String(), "laintext\":") || strings.Contains(logged.String(), "CiphertextBlob") {
		t.Error("bodies were logged")
	}
}

// One client per Region, made when it is needed, and the Region out of the key's ARN.
func TestOneClientPerRegion(t *testing.T) {
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	open := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + role + `"},"Action":"kms:*","Resource":"*"}]}`
	k, err := New(onWire(t, fake), nil)
	if err != nil {
		t.Fatal(err)
	}
	regions := []string{"us-east-1", "eu-west-1", "ap-southeast-2"}
	for range 2 {
		var wg sync.WaitGroup
		for _, region := range regions {
			key := fake.Account(tenantAccount).Region(region).CreateKey(open)
			for range 4 {
				wg.Go(func() {
					if _, _, err := k.GenerateDataKey(t.Context(), Key(key.ARN()), nil); err != nil {
						t.Errorf("%s: %v", region, err)
					}
				})
			}
		}
		wg.Wait()
	}
	if len(k.clients) != len(regions) {
		t.Errorf("%d clients for %d Regions", len(k.clients), len(regions))
	}
	for _, c := range fake.Calls() {
		if !strings.Contains(c.KeyARN, ":"+c.Region+":") {
			t.Errorf("%s was asked in %s", c.KeyARN, c.Region)
		}
	}
}

// A Keyring shows no credentials however it is printed.
func TestKeyringPrintsNoCredentials(t *testing.T) {
	type holder struct{ ID, Secret string }
	cfg := aws.Config{Credentials: &printable{holder{accessKey, secretKey}}}
	k, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(verb, k); strings.Contains(s, secretKey) {
			t.Errorf("%s: %s", verb, s)
		}
	}
}

type printable struct{ h any }

func (*printable) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}, nil
}

// CredentialsFor: each tenant's calls are made as its role, the role is asked for
// once, and asked for again once it has failed.
func TestCredentialsFor(t *testing.T) {
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	open := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`
	key := fake.Account(tenantAccount).CreateKey(open)
	eu := fake.Account(tenantAccount).Region("eu-west-1").CreateKey(open)
	cfg := onWire(t, fake)
	roleOf := func(tenant string) string { return "arn:aws:iam::" + platformAccount + ":role/byok-" + tenant }
	for _, tenant := range []string{"acme", "initech"} {
		fake.RegisterAccessKey("AKIA"+tenant, roleOf(tenant), secretKey)
	}
	var asked atomic.Int32
	k, err := New(cfg, &Options{CredentialsFor: func(_ context.Context, tenant string) (aws.CredentialsProvider, error) {
		asked.Add(1)
		return static("AKIA"+tenant, secretKey, ""), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, tenant := range []string{"acme", "initech"} {
			for _, key := range []*kmsfake.Key{key, eu} {
				if _, _, err := k.GenerateDataKey(withTenant(t.Context(), tenant), Key(key.ARN()), context4(tenant)); err != nil {
					t.Fatal(err)
				}
				calls := fake.Calls()
				if got := calls[len(calls)-1].Principal; got != roleOf(tenant) {
					t.Errorf("%s was served as %s", tenant, got)
				}
			}
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times for 2 tenants", n)
	}
	for i, tt := range []struct {
		code  string
		class byok.Class
		asked int32
	}{
		{"DisabledException", byok.ClassDenied, 2}, {"ThrottlingException", byok.ClassThrottled, 2}, {"ExpiredTokenException", byok.ClassPlatform, 3},
	} {
		fake.Fail("Decrypt", tt.code, 1)
		_, _, err := k.UnwrapDataKey(withTenant(t.Context(), "acme"), Key(key.ARN()), []byte("x"), nil)
		wantClass(t, err, "Decrypt", tt.class)
		if _, _, err := k.GenerateDataKey(withTenant(t.Context(), "acme"), Key(key.ARN()), nil); err != nil {
			t.Error(err)
		}
		if n := asked.Load(); n != tt.asked {
			t.Errorf("%d: after %s: asked %d times, want %d", i, tt.code, n, tt.asked)
		}
	}
}

// The providers that are kept are bounded in number.
func TestCredentialsForIsBounded(t *testing.T) {
	tc := newTenantCredentials(func(context.Context, string) (aws.CredentialsProvider, error) {
		return static(accessKey, secretKey, ""), nil
	})
	for i := range maxTenants + 100 {
		if _, err := tc.get(t.Context(), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(tc.kept); n != maxTenants {
		t.Errorf("%d providers are kept, want %d", n, maxTenants)
	}
}

// certificate makes a CA and a server certificate that it has signed.
func certificate(t *testing.T, host string, notAfter time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, NotBefore: time.Now().Add(-47 * time.Hour), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		leaf.IPAddresses = []net.IP{ip}
	} else {
		leaf.DNSNames = []string{host}
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(caDER)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// spyListener counts connections and looks at the first byte of each.
type spyListener struct {
	net.Listener
	mu    sync.Mutex
	first []byte
}

func (l *spyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &spyConn{Conn: c, l: l}, nil
}

type spyConn struct {
	net.Conn
	l    *spyListener
	once sync.Once
}

func (c *spyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.once.Do(func() { c.l.mu.Lock(); c.l.first = append(c.l.first, b[0]); c.l.mu.Unlock() })
	}
	return n, err
}

// D14: a KMS that cannot prove who it is gets nothing: the answer is an outage,
// no request is made, and none is repeated in clear.
func TestD14_TLSIsVerified(t *testing.T) {
	fake, key := newFake(t)
	fake.RegisterAccessKey(accessKey, role, secretKey)
	later := time.Now().Add(time.Hour)
	for name, tt := range map[string]struct {
		host    string
		expires time.Time
		trusted bool
		class   byok.Class // 0: works
	}{
		"good":        {"127.0.0.1", later, true, 0},
		"self-signed": {"127.0.0.1", later, false, byok.ClassOutage},
		"wrong host":  {"kms.evil.example", later, true, byok.ClassOutage},
		"expired":     {"127.0.0.1", time.Now().Add(-time.Hour), true, byok.ClassOutage},
	} {
		t.Run(name, func(t *testing.T) {
			cert, pool := certificate(t, tt.host, tt.expires)
			var served atomic.Int32
			handler := fake.Handler()
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { served.Add(1); handler.ServeHTTP(w, r) }))
			spy := &spyListener{Listener: srv.Listener}
			srv.Listener = spy
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
			srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of the handshakes
			srv.StartTLS()
			defer srv.Close()
			cfg := aws.Config{Credentials: static(accessKey, secretKey, ""), BaseEndpoint: aws.String(srv.URL)}
			if tt.trusted {
				cfg.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) { tr.TLSClientConfig.RootCAs = pool })
			}
			k, err := New(cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = k.GenerateDataKey(t.Context(), Key(key.ARN()), context4("acme"))
			if tt.class == 0 {
				if err != nil || served.Load() != 1 {
					t.Fatalf("%v after %d requests", err, served.Load())
				}
				return
			}
			ke := wantClass(t, err, "GenerateDataKey", tt.class)
			var cause *tls.CertificateVerificationError
			if !errors.As(ke, &cause) {
				t.Errorf("not because of the certificate: %v", ke.Err)
			}
			if served.Load() != 0 {
				t.Error("the request was sent")
			}
			spy.mu.Lock()
			defer spy.mu.Unlock()
			if len(spy.first) != 1 || spy.first[0] != 22 { // a TLS handshake record
				t.Errorf("connections began with %v, want one TLS handshake", spy.first)
			}
		})
	}
}

// D14: a redirect does not take a data key to another host, let alone in clear.
func TestD14_NoRedirects(t *testing.T) {
	var leaked atomic.Int32
	clear := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		leaked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer clear.Close()
	for _, status := range []int{301, 302, 307, 308} {
		srv := httptest.NewServer(http.RedirectHandler(clear.URL, status))
		k, err := New(aws.Config{Credentials: static(accessKey, secretKey, "token"), BaseEndpoint: aws.String(srv.URL)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for op, call := range operations(t, k) {
			wantClass(t, call(t.Context(), Key(testARN)), op, byok.ClassOutage)
		}
		srv.Close()
	}
	if leaked.Load() != 0 {
		t.Errorf("%d requests followed a redirect", leaked.Load())
	}
}
