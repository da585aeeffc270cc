// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSigningOnP256TakesFewAllocations(t *testing.T) {
	require.LessOrEqual(t, allocations(t, newSigner(t, ecKey(t))), 300.0)
}

// allocations returns the number of allocations for one document.
func allocations(t testing.TB, signer *Signer) float64 {
	return testing.AllocsPerRun(100, func() {
		if _, err := signer.Sign(sampleRequest(), time.Now()); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkRSA reports the throughput of whole documents as a share of that of bare signatures.
func BenchmarkRSA(b *testing.B) {
	key := rsaKey(b)
	document, bare := compare(b, newSigner(b, key), func(hash []byte) error {
		_, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, hash)
		return err
	})
	b.ReportMetric(float64(bare)/float64(document), "throughput/bare")
}

// BenchmarkECDSA reports how much longer a document takes than a bare signature, and its
// allocations.
func BenchmarkECDSA(b *testing.B) {
	key := ecKey(b)
	signer := newSigner(b, key)
	document, bare := compare(b, signer, func(hash []byte) error {
		_, err := ecdsa.SignASN1(rand.Reader, key, hash)
		return err
	})
	b.ReportMetric(float64((document-bare).Nanoseconds())/1000, "µs-over-bare/op")
	b.ReportMetric(float64(document)/float64(bare), "time/bare")
	b.ReportMetric(allocations(b, signer), "allocs/document")
}

// compare alternates between documents and bare hashes, so that both meet the same load, and
// returns the median time of each.
func compare(b *testing.B, signer *Signer, sign func(hash []byte) error) (document, bare time.Duration) {
	hash := make([]byte, 32)
	request := sampleRequest()
	var documents, bares []time.Duration
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		start := time.Now()
		if _, err := signer.Sign(request, start); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		if err := sign(hash); err != nil {
			b.Fatal(err)
		}
		documents, bares = append(documents, middle.Sub(start)), append(bares, time.Since(middle))
	}
	return median(documents), median(bares)
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
