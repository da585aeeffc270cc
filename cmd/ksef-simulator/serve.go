// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/simulator"
)

// Timeouts of the server: for a request's header, and for unfinished requests at shutdown.
const (
	headerTimeout   = 10 * time.Second
	shutdownTimeout = 5 * time.Second
)

// serveFlags are the flags of the command serve.
type serveFlags struct {
	listen, hosts, caOut string
	useTLS, noLimits     bool
	options              simulator.Options
}

func newServeFlags(arguments []string, log io.Writer) (serveFlags, error) {
	f := serveFlags{}
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8380", "`address` to listen on")
	flags.BoolVar(&f.useTLS, "tls", false, "serve https, under an authority that is made at start; needs --ca-out")
	flags.StringVar(&f.hosts, "tls-host", "127.0.0.1,localhost",
		"host `names` and addresses of the server's certificate, with --tls")
	flags.StringVar(&f.caOut, "ca-out", "",
		"`file` to write the authority's certificate to, with --tls; it is overwritten")
	flags.DurationVar(&f.options.ActivationDelay, "activation-delay", time.Second, "how long a new token is Pending")
	flags.DurationVar(&f.options.RevocationDelay, "revocation-delay", time.Second,
		"how long a revoked token is Revoking, and a revoked certificate Blocked")
	flags.DurationVar(&f.options.LoginDelay, "login-delay", 0, "how long a login is in progress (status 100)")
	flags.DurationVar(&f.options.QualifiedLoginDelay, "qualified-login-delay", 0,
		"how much longer a login is in progress with a certificate that KSeF has not issued")
	flags.DurationVar(&f.options.AccessTokenLifetime, "access-token-lifetime", 15*time.Minute,
		"how long an access token is valid: 10s to 15m")
	flags.DurationVar(&f.options.EnrollmentDelay, "enrollment-delay", time.Second,
		"how long a request for a certificate is in progress")
	flags.DurationVar(&f.options.GrantDelay, "grant-delay", time.Second,
		"how long granting permissions, or taking one away, is in progress")
	flags.DurationVar(&f.options.CertificateLifetime, "certificate-lifetime", 0,
		"how long a certificate of KSeF is valid; 0 is two years")
	flags.DurationVar(&f.options.CertificateAcceptanceDelay, "certificate-acceptance-delay", 0,
		"how long a new certificate of KSeF counts as not yet valid")
	flags.DurationVar(&f.options.ClockOffset, "clock-offset", 0,
		"how far the clock is ahead of this machine's; a negative one is behind")
	flags.BoolVar(&f.options.RequireGrants, "require-grants", false,
		"refuse logins of persons (PESEL) who have never had a grant in the context;\n"+
			"by default they have all permissions there")
	flags.BoolVar(&f.options.TokensMayIssueTokens, "tokens-may-issue-tokens", false,
		"allow POST /tokens after a login with a token")
	flags.BoolVar(&f.options.TokensReadOthers, "tokens-read-others", false,
		"let a login with a token without Credentials* ask for the status of others' tokens")
	flags.BoolVar(&f.options.TokensMayNotQueryCertificates, "tokens-may-not-query-certificates", false,
		"refuse POST /certificates/query after a login with a token (403)")
	flags.BoolVar(&f.options.OmitAuthenticationMethod, "omit-authentication-method", false,
		"leave the deprecated authenticationMethod out of responses")
	flags.BoolVar(&f.options.ForbidOtherJWTs, "forbid-other-jwts", false,
		"respond to a JWT of the wrong kind with 403 and no body instead of 401")
	flags.StringVar((*string)(&f.options.Tokens), "tokens", "accepted",
		"what becomes of KSeF tokens from 1 January 2027 on: accepted, refused or expiring")
	flags.IntVar(&f.options.TokenValidity, "token-validity", 365,
		"how many `days` a token is valid with --tokens expiring: 1 to 365")
	flags.StringVar((*string)(&f.options.DeleteUnknownToken), "delete-unknown", "400",
		"response to DELETE of an unknown token: 204, 400 or 403")
	flags.StringVar((*string)(&f.options.DeleteDeadToken), "delete-dead", "400",
		"response to DELETE of a revoked or failed token: 204, 400 or 403")
	flags.StringVar((*string)(&f.options.DeletePendingToken), "delete-pending", "204",
		"response to DELETE of a pending token: 204, 400 or 403")
	flags.Func("global-limit",
		"most requests of one source address in any `second,minute,hour`, over all contexts; -1 is none",
		func(text string) (err error) {
			f.options.Limits.Global, err = parseWindows(text)
			return err
		})
	flags.BoolVar(&f.noLimits, "no-limits", false, "lift all rate limits")
	if err := parse(flags, arguments, log); err != nil {
		return serveFlags{}, err
	}
	hostsGiven := false
	flags.Visit(func(given *flag.Flag) { hostsGiven = hostsGiven || given.Name == "tls-host" })
	if !f.useTLS && (hostsGiven || f.caOut != "") {
		return serveFlags{}, errors.New("--tls-host and --ca-out are for --tls only")
	}
	if f.useTLS && f.caOut == "" {
		return serveFlags{}, errors.New("--tls needs --ca-out: clients have to trust the certificate in that file")
	}
	if f.options.TokenValidity == 0 {
		return serveFlags{}, errors.New("--token-validity 0 is not valid: use 1 to 365")
	}
	if f.options.AccessTokenLifetime == 0 {
		return serveFlags{}, errors.New("--access-token-lifetime 0 is not valid: use 10s to 15m")
	}
	f.options.ActivationDelay = noneWhenZero(f.options.ActivationDelay)
	f.options.RevocationDelay = noneWhenZero(f.options.RevocationDelay)
	f.options.EnrollmentDelay = noneWhenZero(f.options.EnrollmentDelay)
	f.options.GrantDelay = noneWhenZero(f.options.GrantDelay)
	if f.noLimits {
		none := simulator.Windows{PerSecond: -1, PerMinute: -1, PerHour: -1}
		f.options.Limits = simulator.Limits{Context: none, Client: none, Global: none}
	}
	return f, nil
}

// noneWhenZero turns "no delay" of the command line into the negative value of simulator.Options,
// where zero is the default.
func noneWhenZero(delay time.Duration) time.Duration {
	if delay == 0 {
		return -1
	}
	return delay
}

// serve runs the simulator until the context ends.
func serve(ctx context.Context, arguments []string, out, log io.Writer) error {
	f, err := newServeFlags(arguments, log)
	if err != nil {
		return err
	}
	sim, err := simulator.New(f.options)
	if err != nil {
		return err
	}
	listener, err := f.newListener(ctx)
	if err != nil {
		return err
	}
	scheme := map[bool]string{false: "http", true: "https"}[f.useTLS]
	_, err = fmt.Fprintf(out, "ksef-simulator: the API is at %s://%s/v2, its control at %[1]s://%[2]s/simulator/\n",
		scheme, listener.Addr())
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	return serveUntil(ctx, listener, sim.Handler())
}

func (f serveFlags) newListener(ctx context.Context) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", f.listen)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	if !f.useTLS {
		return listener, nil
	}
	caPEM, certificate, err := simulator.NewServerCertificate(strings.Split(f.hosts, ",")...)
	if err == nil {
		err = os.WriteFile(f.caOut, caPEM, 0o644) //nolint:gosec // a certificate is public
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--tls: %w", err), listener.Close())
	}
	return tls.NewListener(listener,
		&tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}), nil
}

// serveUntil serves until the context ends, and then waits for unfinished requests.
func serveUntil(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}
