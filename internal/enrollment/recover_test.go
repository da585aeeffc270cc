// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enrollment

import (
	"context"
	"testing"

	"vault-plugin-secrets-ksef/client"

	"github.com/stretchr/testify/require"
)

// pages is a KSeF that lists pages of certificates, whatever the filter.
type pages struct {
	API
	names [][]string
	asked []client.CertificateQuery
}

func (p *pages) QueryCertificates(_ context.Context, query client.CertificateQuery) (*client.CertificatePage, error) {
	p.asked = append(p.asked, query)
	page := &client.CertificatePage{HasMore: query.PageOffset+1 < len(p.names)}
	for _, name := range p.names[query.PageOffset] {
		page.Certificates = append(page.Certificates, client.Certificate{Name: name, SerialNumber: "of " + name})
	}
	return page, nil
}

func TestSerialOf(t *testing.T) {
	for name, test := range map[string]struct {
		names [][]string
		want  string
		asked int
	}{
		"on the first page": {[][]string{{"mine"}, {"another"}}, "of mine", 1},
		"on the last page":  {[][]string{{"mine too"}, {"not mine"}, {"mine"}}, "of mine", 3},
		"nowhere":           {[][]string{{"mine too"}, {}}, "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			ksef := &pages{names: test.names}
			serial, err := serialOf(t.Context(), ksef, "mine")
			require.NoError(t, err)
			require.Equal(t, test.want, serial)
			require.Len(t, ksef.asked, test.asked)
			require.Equal(t, "mine", ksef.asked[0].Name)
		})
	}
	t.Run("more than are looked at is not nowhere", func(t *testing.T) {
		_, err := serialOf(t.Context(), &pages{names: make([][]string, 11)}, "mine")
		require.ErrorIs(t, err, client.ErrMoreCertificates)
	})
}
