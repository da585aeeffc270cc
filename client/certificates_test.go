// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// certificates is a KSeF with so many certificates, each named by its position.
type certificates struct {
	t        *testing.T
	count    int
	requests []string
}

func (c *certificates) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	assert.NoError(c.t, err)
	c.requests = append(c.requests, r.URL.RequestURI()+" "+string(body))
	size, err := strconv.Atoi(r.URL.Query().Get("pageSize"))
	assert.NoError(c.t, err)
	number := 0
	if r.URL.Query().Has("pageOffset") {
		number, err = strconv.Atoi(r.URL.Query().Get("pageOffset"))
		assert.NoError(c.t, err)
	}
	page := CertificatePage{HasMore: (number+1)*size < c.count}
	for position := number * size; position < min(c.count, (number+1)*size); position++ {
		page.Certificates = append(page.Certificates, Certificate{Name: fmt.Sprint(position)})
	}
	assert.NoError(c.t, json.NewEncoder(w).Encode(page))
}

// walk returns how many certificates were seen until one has the name.
func (c *certificates) walk(name string) (seen int, err error) {
	api := newClient(c.t, handled{c})
	for found, err := range AllCertificates(CertificateQuery{Name: "n"}, func(query CertificateQuery) (*CertificatePage, error) {
		return api.QueryCertificates(c.t.Context(), query)
	}) {
		if err != nil {
			return seen, err
		}
		seen++
		if found.Name == name {
			break
		}
	}
	return seen, nil
}

func TestAllCertificates(t *testing.T) {
	t.Run("of all pages", func(t *testing.T) {
		ksef := &certificates{t: t, count: 120}
		seen, err := ksef.walk("")
		require.NoError(t, err)
		require.Equal(t, 120, seen)
		require.Equal(t, []string{
			`/v2/certificates/query?pageSize=50 {"name":"n"}`,
			`/v2/certificates/query?pageOffset=1&pageSize=50 {"name":"n"}`,
			`/v2/certificates/query?pageOffset=2&pageSize=50 {"name":"n"}`,
		}, ksef.requests)
	})
	t.Run("no further page than is needed", func(t *testing.T) {
		ksef := &certificates{t: t, count: 120}
		seen, err := ksef.walk("49")
		require.NoError(t, err)
		require.Equal(t, 50, seen)
		require.Len(t, ksef.requests, 1)
	})
	t.Run("none", func(t *testing.T) {
		ksef := &certificates{t: t}
		seen, err := ksef.walk("")
		require.NoError(t, err)
		require.Zero(t, seen)
		require.Len(t, ksef.requests, 1)
	})
	t.Run("ten pages", func(t *testing.T) {
		ksef := &certificates{t: t, count: 500}
		seen, err := ksef.walk("")
		require.NoError(t, err)
		require.Equal(t, 500, seen)
	})
	t.Run("more than ten pages", func(t *testing.T) {
		ksef := &certificates{t: t, count: 501}
		seen, err := ksef.walk("")
		require.ErrorIs(t, err, ErrMoreCertificates)
		require.Equal(t, 500, seen)
		require.Len(t, ksef.requests, 10)
	})
	t.Run("an error ends the walk", func(t *testing.T) {
		failed, pages := errors.New("no permit"), 0
		for _, err := range AllCertificates(CertificateQuery{}, func(CertificateQuery) (*CertificatePage, error) {
			if pages++; pages == 2 {
				return nil, failed
			}
			return &CertificatePage{Certificates: []Certificate{{}}, HasMore: true}, nil
		}) {
			require.True(t, err == nil || errors.Is(err, failed))
		}
		require.Equal(t, 2, pages)
	})
}
