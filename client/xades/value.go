// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import (
	"errors"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// coordinateBytes is the length of r and of s on P-256.
const coordinateBytes = 32

// rsaValue is the signature itself.
func rsaValue(signature []byte) ([]byte, error) { return signature, nil }

// ecdsaValue converts the DER of a crypto.Signer into the form of XML signatures: r followed by s,
// each padded with zeros to the length of the curve's order (RFC 4050 section 3.3). About one
// signature in 128 needs the padding.
func ecdsaValue(signature []byte) ([]byte, error) {
	var (
		r, s  big.Int
		inner cryptobyte.String
	)
	input := cryptobyte.String(signature)
	if !input.ReadASN1(&inner, asn1.SEQUENCE) || !input.Empty() ||
		!inner.ReadASN1Integer(&r) || !inner.ReadASN1Integer(&s) || !inner.Empty() {
		return nil, errors.New("the key gave an ECDSA signature that is not DER")
	}
	if !isCoordinate(&r) || !isCoordinate(&s) {
		return nil, errors.New("the key gave an ECDSA signature that is out of range for P-256")
	}
	value := make([]byte, 2*coordinateBytes)
	r.FillBytes(value[:coordinateBytes])
	s.FillBytes(value[coordinateBytes:])
	return value, nil
}

func isCoordinate(n *big.Int) bool {
	return n.Sign() > 0 && n.BitLen() <= 8*coordinateBytes
}
