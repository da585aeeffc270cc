// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package enrollmenttest has a small fake of KSeF's certificates for unit tests.
package enrollmenttest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// Subject is who the certificates are for, and NIP its number.
const (
	NIP     = "5265877635"
	Subject = "Nip:" + NIP
)

// Certificate is one that the fake has issued.
type Certificate struct {
	Name   string
	Issued *x509.Certificate
	// Revoked is the reason; "" while it is active.
	Revoked string
}

// KSeF implements enrollment.API. It issues a certificate with each request, at once.
type KSeF struct {
	Certificates map[string]*Certificate // by serial number
	// Left is how many requests KSeF still accepts.
	Left int
	// Subject is what certificates are issued for.
	Subject client.EnrollmentData
	// Pending keeps requests from being decided, Rejected has them decided against.
	Pending, Rejected bool
	// Requests are the endpoints called, in order.
	Requests []string
	// Before is called before each request takes effect, After before its reply. The error that
	// either returns is the client's.
	Before, After func(endpoint string) error

	requests map[string]string // serial numbers by reference number
}

// New returns a KSeF without certificates.
func New() *KSeF {
	none := func(string) error { return nil }
	return &KSeF{
		Certificates: make(map[string]*Certificate), requests: make(map[string]string), Left: 10, Before: none, After: none,
		Subject: client.EnrollmentData{CommonName: "Firma", OrganizationName: "Firma", OrganizationIdentifier: "VATPL-" + NIP, CountryName: "PL"},
	}
}

// Active returns the serial numbers of the certificates that are not revoked.
func (k *KSeF) Active() []string {
	var active []string
	for serial, one := range k.Certificates {
		if one.Revoked == "" {
			active = append(active, serial)
		}
	}
	slices.Sort(active)
	return active
}

// Count returns how often the endpoint was called.
func (k *KSeF) Count(endpoint string) int {
	return len(slices.DeleteFunc(slices.Clone(k.Requests), func(one string) bool { return one != endpoint }))
}

// Lost is the client's error where a reply, or the request itself, was lost.
func Lost(endpoint string) error {
	return &client.TransportError{Endpoint: endpoint, Sent: true, Connected: true, Err: errors.New("lost")}
}

// Refused is the client's error where KSeF answers with an exception code.
func Refused(endpoint string, code int) error {
	return &client.APIError{Endpoint: endpoint, Status: http.StatusBadRequest, Problems: []client.Problem{{Code: code}}}
}

func call[T any](k *KSeF, endpoint string, do func() (T, error)) (out T, err error) {
	k.Requests = append(k.Requests, endpoint)
	if err := k.Before(endpoint); err != nil {
		return out, err
	}
	if out, err = do(); err == nil {
		err = k.After(endpoint)
	}
	return out, err
}

// CertificateLimits implements enrollment.API.
func (k *KSeF) CertificateLimits(context.Context) (*client.CertificateLimits, error) {
	return call(k, client.EndpointCertificateLimits, func() (*client.CertificateLimits, error) {
		return &client.CertificateLimits{CanRequest: k.Left > 0, Enrollment: client.CertificateLimit{Remaining: k.Left, Limit: 10}}, nil
	})
}

// EnrollmentData implements enrollment.API.
func (k *KSeF) EnrollmentData(context.Context) (*client.EnrollmentData, error) {
	return call(k, client.EndpointEnrollmentData, func() (*client.EnrollmentData, error) { return &k.Subject, nil })
}

// Enroll implements enrollment.API.
func (k *KSeF) Enroll(_ context.Context, request client.EnrollmentRequest) (string, error) {
	return call(k, client.EndpointEnroll, func() (string, error) {
		csr, err := x509.ParseCertificateRequest(request.CSR)
		if err != nil {
			return "", err
		}
		k.Left--
		reference := fmt.Sprintf("request-%d", len(k.requests)+1)
		k.requests[reference], err = k.issue(request.Name, csr)
		return reference, err
	})
}

func (k *KSeF) issue(name string, csr *x509.CertificateRequest) (serial string, err error) {
	number := big.NewInt(int64(0x0100000000000000 + len(k.Certificates)))
	template := &x509.Certificate{SerialNumber: number, Subject: csr.Subject, NotBefore: time.Now(), NotAfter: time.Now().AddDate(2, 0, 0)}
	template.Subject.ExtraNames = csr.Subject.Names
	authority, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, csr.PublicKey, authority)
	if err != nil {
		return "", err
	}
	issued, err := x509.ParseCertificate(der)
	serial = fmt.Sprintf("%016X", number)
	k.Certificates[serial] = &Certificate{Name: name, Issued: issued}
	return serial, err
}

// Enrollment implements enrollment.API.
func (k *KSeF) Enrollment(_ context.Context, referenceNumber string) (*client.Enrollment, error) {
	return call(k, client.EndpointEnrollment, func() (*client.Enrollment, error) {
		serial, known := k.requests[referenceNumber]
		switch {
		case !known:
			return nil, Refused(client.EndpointEnrollment, client.CodeUnknownEnrollment)
		case k.Pending:
			return &client.Enrollment{Status: client.Status{Code: client.EnrollmentPending}}, nil
		}
		if k.Rejected {
			return &client.Enrollment{Status: client.Status{Code: http.StatusBadRequest}}, nil
		}
		return &client.Enrollment{Status: client.Status{Code: client.EnrollmentDone}, SerialNumber: serial}, nil
	})
}

// RetrieveCertificate implements enrollment.API.
func (k *KSeF) RetrieveCertificate(_ context.Context, serialNumber string) (*x509.Certificate, error) {
	return call(k, client.EndpointRetrieve, func() (*x509.Certificate, error) {
		if one := k.Certificates[serialNumber]; one != nil {
			return one.Issued, nil
		}
		return nil, client.ErrNoCertificate
	})
}

// QueryCertificates implements enrollment.API.
func (k *KSeF) QueryCertificates(_ context.Context, query client.CertificateQuery) (*client.CertificatePage, error) {
	return call(k, client.EndpointQueryCertificates, func() (*client.CertificatePage, error) {
		page := &client.CertificatePage{}
		for serial, one := range k.Certificates {
			if strings.Contains(one.Name, query.Name) && !k.Pending {
				page.Certificates = append(page.Certificates, client.Certificate{Name: one.Name, SerialNumber: serial})
			}
		}
		return page, nil
	})
}

// RevokeCertificate implements enrollment.API.
func (k *KSeF) RevokeCertificate(_ context.Context, serialNumber, reason string) error {
	_, err := call(k, client.EndpointRevokeCertificate, func() (struct{}, error) {
		one := k.Certificates[serialNumber]
		switch {
		case one == nil:
			return struct{}{}, Refused(client.EndpointRevokeCertificate, client.CodeUnknownCertificate)
		case one.Revoked != "":
			return struct{}{}, Refused(client.EndpointRevokeCertificate, client.CodeCertificateEnded)
		}
		one.Revoked = reason
		return struct{}{}, nil
	})
	return err
}
