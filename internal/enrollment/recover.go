// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enrollment

import (
	"context"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
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

// UnsettledError says that a certificate may still appear whose request's reply was lost.
type UnsettledError struct {
	// Wait is how long to wait before the next search.
	Wait time.Duration
	// Until is when the certificate is asked for again.
	Until time.Time
}

func (e *UnsettledError) Error() string {
	return fmt.Sprintf("KSeF's reply to the request was lost; the engine searches for the certificate by its name until %s, and then asks for it again if KSeF has not counted the request",
		e.Until.UTC().Format(time.RFC3339))
}

// Recover finds out what became of a request whose reply was lost. It returns the certificate's
// serial number where one has its name. Where there is none and KSeF has not counted a request, it
// returns "" and no error, with Asked and Remaining set anew: the caller stores them and calls Ask.
// The error is an *UnsettledError, or why it is not known.
func (e *Enrollment) Recover(ctx context.Context, api API) (serial string, err error) {
	serial, err = serialOf(ctx, api, e.Name)
	if err != nil {
		return "", fmt.Errorf("searching for the certificate %q: %w", e.Name, err)
	}
	if serial != "" {
		return serial, nil
	}
	if time.Since(e.Asked) < settledAfter {
		return "", &UnsettledError{Wait: nextSearch(e.Asked, time.Now()), Until: e.Asked.Add(settledAfter)}
	}
	limits, err := api.CertificateLimits(ctx)
	if err != nil {
		return "", fmt.Errorf("asking KSeF how many requests it has counted: %w", err)
	}
	if limits.Enrollment.Remaining < e.Remaining && time.Since(e.Asked) < forgottenAfter {
		return "", fmt.Errorf("KSeF has counted a request since %s, and no certificate %q has appeared yet", e.Asked.Format(time.RFC3339), e.Name)
	}
	if err := checkLimits(limits); err != nil {
		return "", err
	}
	e.Asked, e.Remaining = time.Now().UTC(), limits.Enrollment.Remaining
	return "", nil
}

// serialOf returns the serial number of the certificate with that name, "" where there is none. The
// name is unique, so that one page is enough unless KSeF's filter takes in more than it says.
func serialOf(ctx context.Context, api API, name string) (string, error) {
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
