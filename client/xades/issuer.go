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

// attribute keeps the encoded value, unlike pkix.AttributeTypeAndValue: the hexadecimal form
// repeats the encoding.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// relativeNameSET is one level of a name; encoding/asn1 reads a type with this suffix as a SET.
type relativeNameSET []attribute

// shortName returns the keyword of an attribute type that every reader of RFC 4514 knows (section
// 3), or an empty text. Other types are written as numbers.
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

// issuerName writes a DER-encoded name in the form of RFC 4514, in characters that XML allows.
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

// write returns the value as text if its type and value have a textual form, and otherwise as the
// hexadecimal form of its encoding (RFC 4514 section 2.4).
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

// escapeText escapes text as canonical XML does. There are no carriage returns: escapeValue escapes
// them.
func escapeText(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}
