// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSigningOnP256TakesFewAllocations(t *testing.T) {
	signer := newSigner(t, ecKey(t))
	allocations := testing.AllocsPerRun(100, func() {
		if _, err := signer.Sign(sampleRequest(), time.Now()); err != nil {
			t.Error(err)
		}
	})
	require.LessOrEqual(t, allocations, 300.0)
}

// BenchmarkRSA reports the throughput of whole documents as a share of that of
// bare signatures.
func BenchmarkRSA(b *testing.B) {
	key := rsaKey(b)
	document, bare := compare(b, newSigner(b, key), func(hash []byte) error {
		_, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, hash)
		return err
	})
	b.ReportMetric(float64(bare)/float64(document), "throughput/bare")
}

// BenchmarkECDSA reports how much longer a document takes than a bare signature.
func BenchmarkECDSA(b *testing.B) {
	key := ecKey(b)
	document, bare := compare(b, newSigner(b, key), func(hash []byte) error {
		_, err := ecdsa.SignASN1(rand.Reader, key, hash)
		return err
	})
	b.ReportMetric(float64((document-bare).Nanoseconds())/1000/float64(b.N), "µs-over-bare/op")
	b.ReportMetric(float64(document)/float64(bare), "time/bare")
}

// compare signs documents and bare hashes in turn, so that both meet the same
// load of the machine, and returns the time that each took in all.
func compare(b *testing.B, signer *Signer, sign func(hash []byte) error) (document, bare time.Duration) {
	hash := make([]byte, 32)
	request := sampleRequest()
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
		document += middle.Sub(start)
		bare += time.Since(middle)
	}
	return document, bare
}
