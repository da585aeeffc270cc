// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
)

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
