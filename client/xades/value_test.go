// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The signed info is cut out as text: other tests prove that it is in canonical form, and parsing
// ten thousand documents takes long.
func TestTenThousandECDSASignaturesVerify(t *testing.T) {
	key := ecKey(t)
	signer := newSigner(t, key)
	short := 0
	for range 10_000 {
		signed, err := signer.Sign(sampleRequest(), time.Now())
		require.NoError(t, err)
		document := string(signed)
		start, end := strings.Index(document, "<ds:SignedInfo"), strings.Index(document, "</ds:SignedInfo>")
		_, value, _ := strings.Cut(document, "<ds:SignatureValue>")
		value, _, _ = strings.Cut(value, "<")
		require.True(t, verifies(t, []byte(document[start:end]+"</ds:SignedInfo>"), value, key.Public()), document)
		if raw, _ := base64.StdEncoding.DecodeString(value); raw[0] == 0 || raw[32] == 0 {
			short++
		}
	}
	require.Positive(t, short, "no signature needed padding, so padding was not tried")
	t.Logf("%d of 10000 signatures needed padding", short)
}

func TestECDSAValueIsPaddedToTheOrder(t *testing.T) {
	order, _ := new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550", 16)
	for name, c := range map[string]struct{ r, s *big.Int }{
		"one and two":       {big.NewInt(1), big.NewInt(2)},
		"31 bytes and full": {new(big.Int).Rsh(order, 8), order},
		"full and 31 bytes": {order, new(big.Int).Rsh(order, 8)},
		"high bit set":      {new(big.Int).Lsh(big.NewInt(1), 255), order},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := asn1.Marshal([]*big.Int{c.r, c.s})
			require.NoError(t, err)
			value, err := ecdsaValue(der)
			require.NoError(t, err)
			require.Len(t, value, 64)
			require.Zero(t, c.r.Cmp(new(big.Int).SetBytes(value[:32])))
			require.Zero(t, c.s.Cmp(new(big.Int).SetBytes(value[32:])))
		})
	}
}

func TestECDSAValueRefusesWhatIsNoSignatureOnP256(t *testing.T) {
	marshal := func(numbers ...*big.Int) []byte {
		der, err := asn1.Marshal(numbers)
		require.NoError(t, err)
		return der
	}
	one, tooLong := big.NewInt(1), new(big.Int).Lsh(big.NewInt(1), 256)
	for name, der := range map[string][]byte{
		"nothing":       nil,
		"r and s raw":   bytes.Repeat([]byte{7}, 64),
		"one number":    marshal(one),
		"three numbers": marshal(one, one, one),
		"data after it": append(marshal(one, one), 0),
		"zero":          marshal(big.NewInt(0), one),
		"negative":      marshal(one, big.NewInt(-1)),
		"33 bytes":      marshal(one, tooLong),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ecdsaValue(der)
			require.ErrorContains(t, err, "the key gave an ECDSA signature that is")
		})
	}
}
