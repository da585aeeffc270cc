// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import (
	"cmp"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"unicode"
)

// attribute keeps the value as it was encoded: pkix.AttributeTypeAndValue loses the encoding, which
// the hexadecimal form repeats.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// relativeNameSET is one level of a name; the suffix tells encoding/asn1 that it is a SET.
type relativeNameSET []attribute

// shortName is the keyword of an attribute type that every reader of RFC 4514 knows (section 3), or
// empty. Types without one are written as numbers.
func shortName(oid asn1.ObjectIdentifier) string {
	switch oid.String() {
	case "2.5.4.3":
		return "CN"
	case "2.5.4.6":
		return "C"
	case "2.5.4.7":
		return "L"
	case "2.5.4.8":
		return "ST"
	case "2.5.4.9":
		return "STREET"
	case "2.5.4.10":
		return "O"
	case "2.5.4.11":
		return "OU"
	case "0.9.2342.19200300.100.1.1":
		return "UID"
	case "0.9.2342.19200300.100.1.25":
		return "DC"
	}
	return ""
}

// issuerName writes a DER-encoded name in the form of RFC 4514, all of whose characters XML can
// hold.
func issuerName(der []byte) (string, error) {
	var names []relativeNameSET
	rest, err := asn1.Unmarshal(der, &names)
	if err != nil {
		return "", err
	}
	if len(rest) != 0 {
		return "", errors.New("the name is followed by other data")
	}
	var text strings.Builder
	for i, name := range slices.Backward(names) {
		for j, attribute := range name {
			if j > 0 {
				text.WriteByte('+')
			}
			attribute.write(&text)
		}
		if i > 0 {
			text.WriteByte(',')
		}
	}
	return text.String(), nil
}

// write gives the value as text if both type and value have a textual form, and as the hexadecimal
// of its encoding if not (RFC 4514 section 2.4).
func (a attribute) write(text *strings.Builder) {
	var value string
	_, err := asn1.Unmarshal(a.Value.FullBytes, &value)
	keyword := shortName(a.Type)
	if keyword == "" || err != nil {
		text.WriteString(cmp.Or(keyword, a.Type.String()) + "=#" + hex.EncodeToString(a.Value.FullBytes))
		return
	}
	text.WriteString(keyword + "=")
	escapeValue(text, value)
}

// escapeValue escapes what RFC 4514 reserves (section 2.4) and, as pairs of hexadecimal digits,
// control characters and the two others that XML excludes.
func escapeValue(text *strings.Builder, value string) {
	for i, r := range value {
		switch {
		case unicode.IsControl(r), r == '\uFFFE', r == '\uFFFF':
			for _, b := range []byte(string(r)) {
				text.WriteString(`\` + hex.EncodeToString([]byte{b}))
			}
		case strings.ContainsRune(`"+,;<>\`, r), r == '#' && i == 0, r == ' ' && (i == 0 || i == len(value)-1):
			text.WriteString(`\` + string(r))
		default:
			text.WriteRune(r)
		}
	}
}

// escapeText escapes text as canonical XML does. It leaves carriage returns alone, since
// escapeValue lets none through.
func escapeText(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}
