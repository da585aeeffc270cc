// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/credential"
)

const (
	// settledAfter is how long after the request a certificate that does not appear, while KSeF's
	// count of requests has not moved, was never asked for.
	settledAfter = 10 * time.Minute
	// forgottenAfter is how long after the request one that does not appear was rejected, though
	// KSeF has counted the request. It is asked for again with the same key: should it appear after
	// all, nothing is lost.
	forgottenAfter = 24 * time.Hour
)

// LostReplyError says that it is not known whether KSeF has got the request for a certificate. The
// engine looks for the certificate by its name.
type LostReplyError struct {
	Name string
	Err  error
}

func (e *LostReplyError) Error() string {
	return fmt.Sprintf("it is not known whether KSeF has got the request for the certificate %q; the engine finds that out by itself: %v", e.Name, e.Err)
}

func (e *LostReplyError) Unwrap() error { return e.Err }

// prepare asks KSeF what is allowed, and makes the key and the request.
func (r *Rotation) prepare(ctx context.Context, request Request) (Upstream, *record, error) {
	current, err := r.Mount.Current(ctx)
	if err != nil {
		return nil, nil, err
	}
	next := &record{
		Step: StepEnroll, Began: time.Now().UTC(), Automatic: request.Automatic, Subject: current.Subject,
	}
	if current.Certificate != nil {
		next.PreviousSerial, next.PreviousDigest = serialNumber(current.Certificate), digest(current.Certificate)
	}
	api, err := r.upstream(ctx, current.Subject)
	if err != nil {
		return nil, next, err
	}
	if request.Automatic {
		issued, err := isKSeFs(ctx, api, next)
		if err != nil {
			return nil, next, err
		}
		if !issued {
			return nil, next, ErrNotKSeFs
		}
	}
	limits, err := api.CertificateLimits(ctx)
	if err != nil {
		return nil, next, fmt.Errorf("asking KSeF how many certificates the subject may have: %w", err)
	}
	if err := allowed(limits); err != nil {
		return nil, next, err
	}
	next.Remaining = limits.Enrollment.Remaining
	subject, err := api.EnrollmentData(ctx)
	if err != nil {
		return nil, next, fmt.Errorf("asking KSeF for the subject of the certificate: %w", err)
	}
	next.SubjectName = subject.CommonName
	return api, next, next.makeKey(request, *subject)
}

// upstream is KSeF under a session of the subject. Another may have logged in meanwhile: KSeF would
// show that one nothing of this subject's.
func (r *Rotation) upstream(ctx context.Context, subject string) (Upstream, error) {
	api, err := r.Mount.Upstream(ctx)
	if err != nil {
		return nil, err
	}
	if err := api.Ready(ctx); err != nil {
		return nil, err
	}
	return api, sameSubject(api.Subject(), subject)
}

func sameSubject(have, subject string) error {
	if have == subject {
		return nil
	}
	return &client.InputError{
		Field: "login", Fault: fmt.Sprintf("is that of %s, and the certificate is for %s", have, subject),
		Remedy: "a rotation keeps the subject: have that one log in again, or wait until the other's login has ended",
	}
}

func allowed(limits *client.CertificateLimits) error {
	if limits.CanRequest {
		return nil
	}
	remedy := "revoke certificates that are no longer used"
	if limits.Enrollment.Remaining == 0 {
		remedy = "wait until older requests no longer count; revoking certificates gives none back"
	}
	return &client.InputError{
		Field: "certificate", Fault: fmt.Sprintf("KSeF allows the subject no further one now: %d of %d requests in 30 days and %d of %d active certificates are left",
			limits.Enrollment.Remaining, limits.Enrollment.Limit, limits.Certificate.Remaining, limits.Certificate.Limit),
		Remedy: remedy,
	}
}

func (c *record) makeKey(request Request, subject client.EnrollmentData) error {
	key, err := newKey(request.KeyType)
	if err != nil {
		return err
	}
	if c.PrivateKey, err = encodeKey(key); err != nil {
		return err
	}
	if c.Request, err = newRequest(subject, key); err != nil {
		return err
	}
	c.Name, c.Asked = uniqueName(request.Name), time.Now().UTC()
	return nil
}

// notBegun remembers an automatic renewal that could not begin, so that it is not tried again too
// soon and the operator learns of it. That another has issued the certificate is no failure.
func (r *Rotation) notBegun(ctx context.Context, state *stored, next *record, cause error) error {
	if next == nil || !next.Automatic || ctx.Err() != nil {
		return cause
	}
	state.Last = next.outcome(state)
	if !errors.Is(cause, ErrNotKSeFs) {
		state.Last.Error = cause.Error()
		r.OnEvent(Event{Kind: EventFail, Automatic: true, Err: cause})
	}
	if err := r.save(ctx, state); err != nil {
		return errors.Join(cause, err)
	}
	return cause
}

// ask sends the request that has been recorded. What KSeF refuses ends the rotation; so does, the
// first time, that it was certainly not sent.
func (r *Rotation) ask(ctx context.Context, api Upstream, state *stored, again bool) error {
	current := state.Current
	referenceNumber, err := api.Enroll(ctx, client.EnrollmentRequest{Name: current.Name, CSR: current.Request})
	switch {
	case client.MayHaveActed(err, client.EndpointEnroll):
		return &LostReplyError{Name: current.Name, Err: err}
	case isFinal(err):
		return r.fail(ctx, state, fmt.Errorf("KSeF does not take the request for a certificate: %w", err))
	case err != nil && again:
		return fmt.Errorf("asking KSeF again for the certificate: %w", err)
	case err != nil:
		return r.fail(ctx, state, fmt.Errorf("asking KSeF for the certificate: %w", err))
	}
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	current.Step, current.ReferenceNumber = StepAwait, referenceNumber
	return r.save(ctx, state)
}

// isFinal says that KSeF has refused, and would again.
func isFinal(err error) bool {
	return client.IsRefusal(err) && !client.IsRateLimited(err) && !client.IsUnauthorized(err) && !client.IsAddressRefused(err)
}

// search finds out what became of a request whose reply nobody has seen: the certificate has a name
// like no other. KSeF counts requests; where neither the certificate is there nor the count has
// moved, it never got one and is asked again.
func (r *Rotation) search(ctx context.Context, state *stored) (wait time.Duration, err error) {
	current := state.Current
	api, err := r.upstream(ctx, current.Subject)
	if err != nil {
		return 0, err
	}
	serial, err := serialOf(ctx, api, current.Name)
	if err != nil {
		return 0, fmt.Errorf("looking for the certificate %q: %w", current.Name, err)
	}
	if serial != "" {
		return 0, r.fetch(ctx, api, state, serial)
	}
	if time.Since(current.Asked) < settledAfter {
		return nextSearch(current.Asked, time.Now()), &pauseError{fmt.Sprintf(
			"KSeF's reply to the request was lost; the certificate is looked for by its name until %s, and then asked for again if KSeF has not counted the request",
			current.Asked.Add(settledAfter).UTC().Format(time.RFC3339))}
	}
	limits, err := api.CertificateLimits(ctx)
	if err != nil {
		return 0, fmt.Errorf("asking KSeF how many requests it has counted: %w", err)
	}
	if limits.Enrollment.Remaining < current.Remaining && time.Since(current.Asked) < forgottenAfter {
		return 0, fmt.Errorf("KSeF has counted a request since %s, and no certificate %q has appeared yet", current.Asked.Format(time.RFC3339), current.Name)
	}
	if err := allowed(limits); err != nil {
		return 0, err
	}
	current.Asked, current.Remaining = time.Now().UTC(), limits.Enrollment.Remaining
	if err := r.save(ctx, state); err != nil {
		return 0, err
	}
	return 0, r.ask(ctx, api, state, true)
}

// serialOf returns the number of the certificate with that name, "" where there is none. The name
// is like no other, so that one page is enough unless KSeF's filter takes in more than it says.
func serialOf(ctx context.Context, api Upstream, name string) (string, error) {
	pages := client.AllCertificates(client.CertificateQuery{Name: name}, func(query client.CertificateQuery) (*client.CertificatePage, error) {
		return api.QueryCertificates(ctx, query)
	})
	for found, err := range pages {
		if err != nil || found.Name == name {
			return found.SerialNumber, err
		}
	}
	return "", nil
}

// nextSearch grows with the age of the request.
func nextSearch(asked, now time.Time) time.Duration {
	for _, age := range [...]time.Duration{30 * time.Second, 2 * time.Minute, 5 * time.Minute, settledAfter} {
		if next := asked.Add(age); next.After(now) {
			return next.Sub(now)
		}
	}
	return time.Hour
}

// await asks whether KSeF has decided.
func (r *Rotation) await(ctx context.Context, state *stored) (wait time.Duration, err error) {
	current := state.Current
	api, err := r.upstream(ctx, current.Subject)
	if err != nil {
		return 0, err
	}
	enrollment, err := api.Enrollment(ctx, current.ReferenceNumber)
	var refused *client.APIError
	switch {
	case errors.As(err, &refused) && (refused.Status == http.StatusGone || refused.Has(client.CodeUnknownEnrollment)):
		// KSeF keeps the answer for 30 days; the certificate's name is for ever.
		current.Step, current.ReferenceNumber = StepEnroll, ""
		return 0, r.save(ctx, state)
	case err != nil:
		return 0, fmt.Errorf("asking for the request %s: %w", current.ReferenceNumber, err)
	case enrollment.Status.Code == client.EnrollmentPending, enrollment.Status.Code == client.EnrollmentDone && enrollment.SerialNumber == "":
		return r.pollWait(), nil
	case enrollment.Status.Code != client.EnrollmentDone:
		return 0, r.fail(ctx, state, &client.EnrollmentError{ReferenceNumber: current.ReferenceNumber, Status: enrollment.Status})
	}
	return 0, r.fetch(ctx, api, state, enrollment.SerialNumber)
}

// fetch stores the certificate beside the one in force.
func (r *Rotation) fetch(ctx context.Context, api Upstream, state *stored, serial string) error {
	certificate, err := api.RetrieveCertificate(ctx, serial)
	if err != nil {
		return fmt.Errorf("fetching the certificate %s: %w", serial, err)
	}
	current := state.Current
	cred, err := credential.Read(credential.Source{Certificate: encodeCertificate(certificate), PrivateKey: current.PrivateKey})
	if err != nil {
		return fmt.Errorf("the certificate %s that KSeF has issued cannot be used: %w", serial, err)
	}
	if subject := cred.Identity.Subject(); subject != current.Subject {
		if err := revoke(ctx, api, serial); err != nil {
			return err
		}
		return r.fail(ctx, state, fmt.Errorf("the certificate %s that KSeF has issued is for %s, not for %s; it has been revoked", serial, subject, current.Subject))
	}
	current.Step, current.SerialNumber, current.Certificate = StepProve, serial, encodeCertificate(certificate)
	return r.save(ctx, state)
}

// KSeF's bounds of a certificate's name, in characters (OpenAPI, EnrollCertificateRequest), and
// what of it is left to the user.
const (
	MinName  = 5
	longest  = 100
	markSize = 12
	MaxName  = longest - markSize - 1
)

var namePattern = regexp.MustCompile(`^[a-zA-Z0-9_\- ąćęłńóśźżĄĆĘŁŃÓŚŹŻ]+$`)

// CheckName refuses a name that KSeF would refuse, with a *client.InputError that names the field.
func CheckName(field, name string) error {
	length := len([]rune(name))
	if length >= MinName && length <= MaxName && namePattern.MatchString(name) && name == strings.TrimSpace(name) {
		return nil
	}
	return &client.InputError{
		Field: field, Fault: "gives what cannot be the name of a KSeF certificate",
		Remedy: fmt.Sprintf("use %d to %d letters, digits, blanks, dashes and underscores", MinName, MaxName),
	}
}

// uniqueName ends with a mark, by which the certificate is found again.
func uniqueName(name string) string {
	var mark [markSize / 2]byte
	_, _ = rand.Read(mark[:]) // never fails
	return name + " " + hex.EncodeToString(mark[:])
}

// serialNumber is a certificate's number as KSeF writes it.
func serialNumber(certificate *x509.Certificate) string {
	return fmt.Sprintf("%016X", certificate.SerialNumber)
}

// digest tells certificates apart that happen to have the same number.
func digest(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return hex.EncodeToString(sum[:])
}

func encodeKey(key crypto.Signer) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("encoding the new key: %w", err)
	}
	return encode("PRIVATE KEY", der), nil
}
