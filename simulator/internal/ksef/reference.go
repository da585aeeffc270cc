// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"strings"
	"time"
)

// The kinds of reference numbers.
const (
	ChallengeKind  = "CR"
	LoginKind      = "AU"
	TokenKind      = "EC"
	EnrollmentKind = "EH"
	OperationKind  = "EG"

	InvoiceSessionKind = "SO" // of an online session
)

// NewReference makes a reference number or challenge: the day, the kind, 22 hexadecimal digits; 36
// characters.
func NewReference(kind string, now time.Time) string {
	digits := strings.ToUpper(RandomHex(22))
	return strings.Join([]string{now.Format("20060102"), kind, digits[:10], digits[10:20], digits[20:]}, "-")
}

// ReferencePattern is the form of reference numbers.
var ReferencePattern = regexp.MustCompile(`^\d{8}-[A-Z]{2}-[0-9A-F]{10}-[0-9A-F]{10}-[0-9A-F]{2}$`)

// RandomHex returns n random hexadecimal digits; n must be even.
func RandomHex(n int) string {
	octets := make([]byte, n/2)
	_, _ = rand.Read(octets) // crypto/rand.Read never returns an error
	return hex.EncodeToString(octets)
}
