// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package client speaks KSeF's HTTP API: logging in, KSeF tokens, certificates, limits.
//
// It holds no session and knows no limits: access tokens come from a [TokenSource], the permission
// to send from a [Limiter]. It keeps only the public keys that KSeF publishes. A request is sent
// again only where KSeF has refused its access token and the source has another. Secrets travel as
// [Secret], which prints as a placeholder.
package client

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// DefaultRequestTimeout bounds one HTTP exchange with KSeF.
const DefaultRequestTimeout = 30 * time.Second

// When an HTTP/2 connection on which nothing arrives is pinged, and how long the answer may take:
// together less than DefaultRequestTimeout.
const (
	pingAfter   = 15 * time.Second
	pingTimeout = 10 * time.Second
)

// Environment addresses, as KSeF's page on environments gives them.
const (
	TestURL       = "https://api-test.ksef.mf.gov.pl/v2"
	DemoURL       = "https://api-demo.ksef.mf.gov.pl/v2"
	ProductionURL = "https://api.ksef.mf.gov.pl/v2"
)

// Config says how to reach one KSeF API.
type Config struct {
	// URL is the API's base address including the version, such as TestURL. Plain http is accepted
	// for loopback hosts only.
	URL string
	// CACertificate holds PEM certificates that are trusted besides the system's own. Empty means
	// the system's alone.
	CACertificate string
	// RequestTimeout bounds one HTTP exchange, body included; 0 means DefaultRequestTimeout.
	RequestTimeout time.Duration
	// UserAgent is sent with each request.
	UserAgent string
	// OnWarning is called for each X-System-Warning that KSeF sends. It may be called from several
	// goroutines at once; nil is allowed.
	OnWarning func(Warning)
	// Transport replaces the network, for tests.
	Transport http.RoundTripper
}

// Warning is a header X-System-Warning: the request succeeded, but KSeF will refuse such a one in
// future.
type Warning struct {
	Endpoint string
	Text     string
	At       time.Time
}

// Client calls one KSeF API. It is safe for concurrent use. Those made from it share its
// connections and KSeF's public keys.
type Client struct {
	config  Config // complete and checked
	http    *http.Client
	limiter Limiter
	tokens  TokenSource // nil for none
	// unanswered counts the requests without an answer in time, and closedAfter is what it was when
	// idle connections were last closed for that.
	unanswered, closedAfter *atomic.Int64
	tokenKeys               *tokenKeys
}

// New checks the configuration and returns a client. It sends nothing. Errors are an *InputError,
// which names the field at fault.
func New(config Config) (*Client, error) {
	var err error
	if config.URL, err = ParseURL(config.URL); err != nil {
		return nil, err
	}
	roots, err := rootPool(config.CACertificate)
	if err != nil {
		return nil, err
	}
	if config.Transport == nil {
		config.Transport = newTransport(roots)
	}
	if config.RequestTimeout <= 0 {
		config.RequestTimeout = DefaultRequestTimeout
	}
	return &Client{
		config:  config,
		http:    &http.Client{Transport: config.Transport, CheckRedirect: refuseRedirect},
		limiter: unlimited{},

		unanswered: &atomic.Int64{}, closedAfter: &atomic.Int64{},
		tokenKeys: newTokenKeys(),
	}, nil
}

// URL is the base address, without a trailing slash.
func (c *Client) URL() string { return c.config.URL }

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// refuseRedirect stops at the first redirect: KSeF documents none, and one would carry a bearer
// token to a host that is not configured.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// ParseURL checks a base address and returns it without a trailing slash.
func ParseURL(raw string) (string, error) {
	remedy := "give KSeF's base address with its version, such as " + TestURL
	parsed, err := url.Parse(raw)
	if err != nil || parsed.Host == "" {
		return "", &InputError{Field: "url", Fault: "is not an absolute URL", Remedy: remedy}
	}
	if parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "" {
		return "", &InputError{Field: "url", Fault: "carries a user, a query or a fragment", Remedy: remedy}
	}
	switch {
	case parsed.Scheme == "https":
	case parsed.Scheme == "http" && isLoopback(parsed.Hostname()):
	case parsed.Scheme == "http":
		return "", &InputError{
			Field: "url", Fault: "is plain http to a host that is not this machine",
			Remedy: "use https; plain http is for loopback addresses only",
		}
	default:
		return "", &InputError{Field: "url", Fault: "begins with neither https nor http", Remedy: "use https"}
	}
	return normalized(parsed), nil
}

// normalized gives one API one address: limits and records are kept under it.
func normalized(address *url.URL) string {
	address.Host = strings.ToLower(address.Host)
	if port := map[string]string{"https": ":443", "http": ":80"}[address.Scheme]; address.Port() != "" {
		address.Host = strings.TrimSuffix(address.Host, port)
	}
	return strings.TrimRight(address.JoinPath().String(), "/")
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

func newTransport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

// rootPool returns nil, the system's own roots, where nothing is added.
func rootPool(caCertificate string) (*x509.CertPool, error) {
	if caCertificate == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM([]byte(caCertificate)) {
		return nil, &InputError{
			Field: "ca_certificate", Fault: "holds no certificate",
			Remedy: "give one or more PEM certificates (-----BEGIN CERTIFICATE-----)",
		}
	}
	return pool, nil
}
