// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
)

// The endpoints of KSeF certificates, as KSeF's documentation names them. They concern the subject
// that is logged in, whatever the taxpayer.
const (
	EndpointCertificateLimits = "GET /certificates/limits"
	EndpointEnrollmentData    = "GET /certificates/enrollments/data"
	EndpointEnroll            = "POST /certificates/enrollments"
	EndpointEnrollment        = "GET /certificates/enrollments/{referenceNumber}"
	EndpointRetrieve          = "POST /certificates/retrieve"
	EndpointQueryCertificates = "POST /certificates/query"
	EndpointRevokeCertificate = "POST /certificates/{certificateSerialNumber}/revoke"
)

// typeAuthentication is the type of certificate that can log in; KSeF's other one is for invoices
// made offline.
const typeAuthentication = "Authentication"

// RevokedSuperseded is the reason for revoking a certificate that another replaces.
const RevokedSuperseded = "Superseded"

// CertificateLimit is how much of something is left.
type CertificateLimit struct {
	Remaining int `json:"remaining"`
	Limit     int `json:"limit"`
}

// CertificateLimits are what KSeF still allows the subject.
type CertificateLimits struct {
	// CanRequest says that a certificate can be asked for now.
	CanRequest bool `json:"canRequest"`
	// Enrollment counts requests in any 30 days; revoking gives none back.
	Enrollment CertificateLimit `json:"enrollment"`
	// Certificate counts active certificates.
	Certificate CertificateLimit `json:"certificate"`
}

// EnrollmentData is the subject that a request for a certificate must name, attribute by attribute.
// "" stands for one that it must not have.
type EnrollmentData struct {
	CommonName             string `json:"commonName"`
	CountryName            string `json:"countryName"`
	GivenName              string `json:"givenName"`
	Surname                string `json:"surname"`
	SerialNumber           string `json:"serialNumber"`
	UniqueIdentifier       string `json:"uniqueIdentifier"`
	OrganizationName       string `json:"organizationName"`
	OrganizationIdentifier string `json:"organizationIdentifier"`
}

// EnrollmentRequest asks for a certificate of type Authentication, valid from its issue.
type EnrollmentRequest struct {
	// Name is 5 to 100 letters, digits, blanks, dashes and underscores.
	Name string
	// CSR is a PKCS#10 request, DER.
	CSR []byte
}

// Enrollment is where a request for a certificate stands.
type Enrollment struct {
	Status Status `json:"status"`
	// SerialNumber is that of the certificate, 16 upper-case hexadecimal digits; "" until it is
	// issued.
	SerialNumber string `json:"certificateSerialNumber"`
}

// EnrollmentError is a request for a certificate that KSeF has refused.
type EnrollmentError struct {
	ReferenceNumber string
	Status          Status
}

func (e *EnrollmentError) Error() string {
	text := fmt.Sprintf("KSeF refused the request %s for a certificate: %s", e.ReferenceNumber, e.Status)
	return appendSentence(text, enrollmentRefusals[e.Status.Code])
}

// enrollmentRefusals explain why KSeF has refused a request for a certificate, by its status.
var enrollmentRefusals = map[int]string{
	statusEnrollmentRefused:     "The subject has as many certificates as it may have, or the key belongs to another.",
	statusEnrollmentFailed:      "KSeF could not finish it; rotate again later.",
	statusEnrollmentInterrupted: "KSeF could not finish it; rotate again later.",
}

// Certificate is an item of KSeF's list of certificates.
type Certificate struct {
	SerialNumber string `json:"certificateSerialNumber"`
	Name         string `json:"name"`
}

// CertificateQuery is QueryCertificatesRequest with the page that is asked for.
type CertificateQuery struct {
	// Name matches any part of a certificate's name; "" does not filter.
	Name string `json:"name,omitempty"`
	// PageSize is 10 to 50; 0 means 10.
	PageSize int `json:"-"`
	// PageOffset is the number of the page, from 0.
	PageOffset int `json:"-"`
}

// CertificatePage is QueryCertificatesResponse: a page of the list, the certificate requested last
// first.
type CertificatePage struct {
	Certificates []Certificate `json:"certificates"`
	// HasMore says that another page follows.
	HasMore bool `json:"hasMore"`
}

// CertificateLimits asks what KSeF still allows the subject.
func (c *Client) CertificateLimits(ctx context.Context) (*CertificateLimits, error) {
	return fetch[CertificateLimits](ctx, c, call{endpoint: EndpointCertificateLimits, success: http.StatusOK, bearer: c.tokens})
}

// EnrollmentData asks for the subject that a request for a certificate must name. KSeF answers only
// sessions that were opened with a signature.
func (c *Client) EnrollmentData(ctx context.Context) (*EnrollmentData, error) {
	return fetch[EnrollmentData](ctx, c, call{endpoint: EndpointEnrollmentData, success: http.StatusOK, bearer: c.tokens})
}

// Enroll asks for a certificate. KSeF answers at once with a reference number and decides later;
// each call may lead to a certificate of its own.
func (c *Client) Enroll(ctx context.Context, request EnrollmentRequest) (referenceNumber string, err error) {
	var out struct {
		ReferenceNumber string `json:"referenceNumber"`
	}
	err = c.do(ctx, call{endpoint: EndpointEnroll, success: http.StatusAccepted, bearer: c.tokens, json: struct {
		Name string `json:"certificateName"`
		Type string `json:"certificateType"`
		CSR  []byte `json:"csr"`
	}{request.Name, typeAuthentication, request.CSR}}, &out)
	if err != nil {
		return "", err
	}
	if out.ReferenceNumber == "" {
		return "", unreadable(EndpointEnroll)
	}
	return out.ReferenceNumber, nil
}

// Enrollment asks where a request for a certificate stands. KSeF keeps that for 30 days (410 Gone
// afterwards).
func (c *Client) Enrollment(ctx context.Context, referenceNumber string) (*Enrollment, error) {
	out, err := fetch[Enrollment](ctx, c, call{endpoint: EndpointEnrollment, parameter: referenceNumber, success: http.StatusOK, bearer: c.tokens})
	if err != nil {
		return nil, err
	}
	if out.Status.Code == 0 {
		return nil, unreadable(EndpointEnrollment)
	}
	return out, nil
}

// ErrNoCertificate says that KSeF knows no certificate of the subject's under the number.
var ErrNoCertificate = errors.New("KSeF has no such certificate of the subject's")

// RetrieveCertificate fetches a certificate of the subject's. It fails with ErrNoCertificate where
// there is none.
func (c *Client) RetrieveCertificate(ctx context.Context, serialNumber string) (*x509.Certificate, error) {
	var out struct {
		Certificates []struct {
			Certificate  []byte `json:"certificate"`
			SerialNumber string `json:"certificateSerialNumber"`
		} `json:"certificates"`
	}
	err := c.do(ctx, call{endpoint: EndpointRetrieve, success: http.StatusOK, bearer: c.tokens, json: struct {
		SerialNumbers []string `json:"certificateSerialNumbers"`
	}{[]string{serialNumber}}}, &out)
	if err != nil {
		return nil, err
	}
	for _, found := range out.Certificates {
		if found.SerialNumber != serialNumber {
			continue
		}
		certificate, err := x509.ParseCertificate(found.Certificate)
		if err != nil {
			return nil, fmt.Errorf("reading KSeF's certificate %s: %w", serialNumber, err)
		}
		return certificate, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrNoCertificate, serialNumber)
}

// RevokeCertificate revokes a certificate of the subject's; reason is one of KSeF's, such as
// RevokedSuperseded. Sessions that were opened with it go on.
func (c *Client) RevokeCertificate(ctx context.Context, serialNumber, reason string) error {
	return c.do(ctx, call{endpoint: EndpointRevokeCertificate, parameter: serialNumber, success: http.StatusNoContent, bearer: c.tokens, json: struct {
		Reason string `json:"revocationReason"`
	}{reason}}, nil)
}

// MaxCertificatePageSize is the largest page of certificates (OpenAPI, POST /certificates/query).
const MaxCertificatePageSize = 50

// maxCertificatePages bounds the requests of one walk, each of which KSeF counts: 120 an hour.
const maxCertificatePages = 10

// ErrMoreCertificates says that KSeF has more certificates than were read.
var ErrMoreCertificates = errors.New("KSeF lists more certificates of the subject than are looked at: 10 pages of 50")

// QueryCertificates returns a page of the subject's certificates.
func (c *Client) QueryCertificates(ctx context.Context, query CertificateQuery) (*CertificatePage, error) {
	values := url.Values{}
	setIf(values, "pageSize", query.PageSize)
	setIf(values, "pageOffset", query.PageOffset)
	return fetch[CertificatePage](ctx, c, call{endpoint: EndpointQueryCertificates, query: values, success: http.StatusOK, bearer: c.tokens, json: query})
}

// AllCertificates walks through all pages that page returns, such as a client's QueryCertificates.
// It asks for a page when the one before has been used up. An error is the last element: that of
// page, or ErrMoreCertificates after ten pages of 50.
func AllCertificates(query CertificateQuery, page func(CertificateQuery) (*CertificatePage, error)) iter.Seq2[Certificate, error] {
	return func(yield func(Certificate, error) bool) {
		query.PageSize = MaxCertificatePageSize
		for query.PageOffset = range maxCertificatePages {
			found, err := page(query)
			if err != nil {
				yield(Certificate{}, err)
				return
			}
			for _, certificate := range found.Certificates {
				if !yield(certificate, nil) {
					return
				}
			}
			if !found.HasMore {
				return
			}
		}
		yield(Certificate{}, ErrMoreCertificates)
	}
}
