// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package enrollment obtains KSeF certificates whose keys are made here. An Enrollment is stored
// before KSeF is asked, and its certificate has a unique name, so that a request whose reply was
// lost is found again.
package enrollment

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/credential"
)

// API is KSeF under a session of the subject that certificates are for.
type API interface {
	CertificateLimits(ctx context.Context) (*client.CertificateLimits, error)
	EnrollmentData(ctx context.Context) (*client.EnrollmentData, error)
	Enroll(ctx context.Context, request client.EnrollmentRequest) (referenceNumber string, err error)
	Enrollment(ctx context.Context, referenceNumber string) (*client.Enrollment, error)
	RetrieveCertificate(ctx context.Context, serialNumber string) (*x509.Certificate, error)
	QueryCertificates(ctx context.Context, query client.CertificateQuery) (*client.CertificatePage, error)
	RevokeCertificate(ctx context.Context, serialNumber, reason string) error
}

// Request says which certificate to obtain.
type Request struct {
	KeyType KeyType
	// Name begins the certificate's name in KSeF. CheckName accepts it.
	Name string
}

// Enrollment is a certificate that is being obtained. It holds a private key and is never printed.
type Enrollment struct {
	// Subject is who the certificate is for; it stays the same. SubjectName is its name in KSeF.
	Subject     string `json:"subject"`
	SubjectName string `json:"subject_name,omitempty"`
	// Name is the certificate's name in KSeF. It is unique.
	Name       string `json:"name"`
	PrivateKey string `json:"private_key,omitempty"`
	CSR        []byte `json:"request,omitempty"`
	// Asked is when the request was last sent, and Remaining how many more KSeF would have taken
	// just before.
	Asked     time.Time `json:"asked,omitzero"`
	Remaining int       `json:"remaining"`

	ReferenceNumber string `json:"reference_number,omitempty"`
	SerialNumber    string `json:"serial_number,omitempty"`
	Certificate     string `json:"certificate,omitempty"`
}

// LostReplyError says that it is not known whether KSeF has got the request for a certificate.
// Recover finds out.
type LostReplyError struct {
	Name string
	Err  error
}

func (e *LostReplyError) Error() string {
	return fmt.Sprintf("it is not known whether KSeF has got the request for the certificate %q; the engine finds that out by itself: %v", e.Name, e.Err)
}

func (e *LostReplyError) Unwrap() error { return e.Err }

// FinalError says that the enrollment cannot succeed: KSeF has refused the request, or issued a
// certificate for another subject.
type FinalError struct{ Err error }

func (e *FinalError) Error() string { return e.Err.Error() }

func (e *FinalError) Unwrap() error { return e.Err }

// ErrForgotten says that KSeF no longer knows the request's reference number, which it keeps for 30
// days. Recover finds the certificate by its name.
var ErrForgotten = errors.New("KSeF no longer knows the reference number of the request for a certificate")

// Prepare asks KSeF what it allows the subject, and makes the key and the request. The caller
// stores the enrollment before it calls Ask. Where KSeF's limits are used up, the error is a
// *client.InputError.
func (e *Enrollment) Prepare(ctx context.Context, api API, request Request) error {
	limits, err := api.CertificateLimits(ctx)
	if err != nil {
		return fmt.Errorf("asking KSeF how many certificates the subject may have: %w", err)
	}
	if err := checkLimits(limits); err != nil {
		return err
	}
	e.Remaining = limits.Enrollment.Remaining
	subject, err := api.EnrollmentData(ctx)
	if err != nil {
		return fmt.Errorf("asking KSeF for the subject of the certificate: %w", err)
	}
	e.SubjectName = subject.CommonName
	if e.PrivateKey, e.CSR, err = newKeyAndRequest(request.KeyType, *subject); err != nil {
		return err
	}
	e.Name, e.Asked = uniqueName(request.Name), time.Now().UTC()
	return nil
}

func checkLimits(limits *client.CertificateLimits) error {
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

// Ask sends the request and sets ReferenceNumber. Errors: *LostReplyError, *FinalError, or why the
// request was not sent or not taken this time.
func (e *Enrollment) Ask(ctx context.Context, api API) error {
	referenceNumber, err := api.Enroll(ctx, client.EnrollmentRequest{Name: e.Name, CSR: e.CSR})
	switch {
	case client.MayHaveActed(err, client.EndpointEnroll):
		return &LostReplyError{Name: e.Name, Err: err}
	case client.IsFinal(err):
		return &FinalError{fmt.Errorf("KSeF does not take the request for a certificate: %w", err)}
	case err != nil:
		return fmt.Errorf("asking KSeF for the certificate: %w", err)
	}
	e.ReferenceNumber = referenceNumber
	return nil
}

// Await returns the serial number of the certificate, "" while KSeF has not issued it. Errors:
// ErrForgotten, a *FinalError with a *client.EnrollmentError, or a failure to ask.
func (e *Enrollment) Await(ctx context.Context, api API) (serial string, err error) {
	found, err := api.Enrollment(ctx, e.ReferenceNumber)
	var refused *client.APIError
	switch {
	case errors.As(err, &refused) && (refused.Status == http.StatusGone || refused.Has(client.CodeUnknownEnrollment)):
		return "", ErrForgotten
	case err != nil:
		return "", fmt.Errorf("asking for the request %s: %w", e.ReferenceNumber, err)
	case found.Status.Code == client.EnrollmentPending:
		return "", nil
	case found.Status.Code != client.EnrollmentDone:
		return "", &FinalError{&client.EnrollmentError{ReferenceNumber: e.ReferenceNumber, Status: found.Status}}
	}
	return found.SerialNumber, nil
}

// Fetch sets SerialNumber and Certificate. It revokes a certificate that is for another subject and
// returns a *FinalError.
func (e *Enrollment) Fetch(ctx context.Context, api API, serial string) error {
	certificate, err := api.RetrieveCertificate(ctx, serial)
	if err != nil {
		return fmt.Errorf("fetching the certificate %s: %w", serial, err)
	}
	encoded := encodePEM("CERTIFICATE", certificate.Raw)
	cred, err := credential.Read(credential.Source{Certificate: encoded, PrivateKey: e.PrivateKey})
	if err != nil {
		return fmt.Errorf("the certificate %s that KSeF has issued cannot be used: %w", serial, err)
	}
	if subject := cred.Identity.Subject(); subject != e.Subject {
		if err := Revoke(ctx, api, serial); err != nil {
			return err
		}
		return &FinalError{fmt.Errorf("the certificate %s that KSeF has issued is for %s, not for %s; it has been revoked", serial, subject, e.Subject)}
	}
	e.SerialNumber, e.Certificate = serial, encoded
	return nil
}
