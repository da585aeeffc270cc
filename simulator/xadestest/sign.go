// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xadestest

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // makes crypto.SHA256 available
	_ "crypto/sha3"   // makes the SHA-3 hashes of package crypto available
	_ "crypto/sha512" // makes crypto.SHA384 and crypto.SHA512 available
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// Request is the content of a login request and how it is signed.
type Request struct {
	Challenge   string
	Context     string // inside ContextIdentifier, as <Nip>5265877635</Nip>
	SubjectType string // "" is certificateSubject
	Inner       string // if not empty, the whole content of AuthTokenRequest, instead of the three above
	Namespace   string // "" is Auth
	Layout      Layout
	Key         crypto.Signer
	Certificate *x509.Certificate
	SigningTime time.Time
	Hash        crypto.Hash // of the signature value; 0 is SHA-256
	DigestHash  crypto.Hash // of the references and the certificate; 0 is SHA-256
	PSS         bool        // with an RSA key, PSS instead of PKCS#1 v1.5

	// Edits change parts before they are digested and signed, so that the signature of the changed
	// document is valid.
	EditProperties func(string) string // xades:SignedProperties, in both its forms
	EditSignedInfo func(string) string // ds:SignedInfo, in both its forms
	EncodeECDSA    func(r, s []byte) []byte
}

// Sign returns the signed document.
func Sign(request Request) ([]byte, error) {
	content := request.content()
	document, canonical := writer{Layout: request.Layout}, writer{Layout: request.Layout, canonical: true}
	digests := []string{request.digest(request.digested(content)), request.digest(request.properties(canonical))}
	octets := request.signedInfo(canonical, digests)
	if request.Layout.Inclusive {
		octets = strings.Replace(octets, `xmlns="`+DSig+`"`, `xmlns="`+DSig+`"`+request.Layout.RootXMLNS, 1)
	}
	value, err := request.value(octets)
	if err != nil {
		return nil, err
	}
	key := document.ds(false, "X509Data", "",
		document.ds(false, "X509Certificate", "", encode(request.Certificate.Raw)))
	inner := request.signedInfo(document, digests) +
		document.ds(false, "SignatureValue", "", encode(value)) +
		document.ds(false, "KeyInfo", "", key) +
		document.ds(false, "Object", "", request.qualifying(document))
	if request.Layout.Enveloping {
		inner += document.ds(false, "Object", ` Id="content"`, request.object(content))
	}
	namespace := " xmlns" + strings.TrimSuffix(":"+request.Layout.Prefix, ":") + `="` + DSig + `"`
	signature := document.ds(false, "Signature", namespace+` Id="Signature"`, inner)
	if request.Layout.Enveloping {
		return []byte(signature), nil
	}
	return []byte(strings.Replace(content, "</AuthTokenRequest>", signature+"</AuthTokenRequest>", 1)), nil
}

// content is the request in its canonical form.
func (r Request) content() string {
	inner := r.Inner
	if inner == "" {
		subject := r.SubjectType
		if subject == "" {
			subject = "certificateSubject"
		}
		inner = "<Challenge>" + r.Challenge + "</Challenge><ContextIdentifier>" + r.Context +
			"</ContextIdentifier><SubjectIdentifierType>" + subject + "</SubjectIdentifierType>"
	}
	namespace := r.Namespace
	if namespace == "" {
		namespace = Auth
	}
	return `<AuthTokenRequest xmlns="` + namespace + `"` + r.Layout.RootXMLNS + ">" + inner + "</AuthTokenRequest>"
}

// digested returns what the first reference covers.
func (r Request) digested(content string) string {
	if r.Layout.Base64 || !r.Layout.Enveloping {
		if r.Layout.RootXMLNS != "" {
			return strings.Replace(content, r.Layout.RootXMLNS, "", 1)
		}
		return content
	}
	return `<ds:Object xmlns:ds="` + DSig + `" Id="content">` + content + "</ds:Object>"
}

func (r Request) object(content string) string {
	if r.Layout.Base64 {
		return encode([]byte(content))
	}
	return content
}

func (r Request) signedInfo(w writer, digests []string) string {
	canonicalization := exclusive
	if r.Layout.Inclusive {
		canonicalization = inclusive
	}
	uri := ` URI=""`
	if r.Layout.Enveloping {
		uri = ` URI="#content"`
	}
	transforms := r.Layout.Transform + w.transform(exclusive)
	if r.Layout.Base64 {
		transforms = w.transform("http://www.w3.org/2000/09/xmldsig#base64")
	}
	info := w.ds(true, "SignedInfo", "",
		w.ds(false, "CanonicalizationMethod", algorithm(canonicalization), "")+
			w.ds(false, "SignatureMethod", algorithm(r.method()), "")+
			w.reference(r.digestMethod(), ` Id="ref-1"`+uri, transforms, digests[0])+
			w.reference(r.digestMethod(), ` Type="http://uri.etsi.org/01903#SignedProperties" URI="#SignedProperties"`,
				w.transform(exclusive), digests[1]))
	if r.EditSignedInfo != nil {
		return r.EditSignedInfo(info)
	}
	return info
}

func (r Request) hash() crypto.Hash {
	return cmp.Or(r.Hash, crypto.SHA256)
}

func (r Request) method() string {
	hash := hashNames()[r.hash()]
	_, ec := r.Key.(*ecdsa.PrivateKey)
	switch {
	case ec && strings.HasPrefix(hash, "sha3-"):
		return "http://www.w3.org/2021/04/xmldsig-more#ecdsa-" + hash
	case ec:
		return "http://www.w3.org/2001/04/xmldsig-more#ecdsa-" + hash
	case r.PSS:
		return "http://www.w3.org/2007/05/xmldsig-more#" + hash + "-rsa-MGF1"
	}
	return "http://www.w3.org/2001/04/xmldsig-more#rsa-" + hash
}

// hashNames are the names of hashes in the identifiers of algorithms.
func hashNames() map[crypto.Hash]string {
	return map[crypto.Hash]string{
		crypto.SHA256: "sha256", crypto.SHA384: "sha384", crypto.SHA512: "sha512",
		crypto.SHA3_224: "sha3-224", crypto.SHA3_256: "sha3-256", crypto.SHA3_384: "sha3-384",
		crypto.SHA3_512: "sha3-512",
	}
}

// digestMethod returns the algorithm identifier of a digest, by RFC 9231 and XML Encryption.
func (r Request) digestMethod() string {
	switch hash := r.digestHash(); hash {
	case crypto.SHA256, crypto.SHA512:
		return "http://www.w3.org/2001/04/xmlenc#" + hashNames()[hash]
	case crypto.SHA384:
		return "http://www.w3.org/2001/04/xmldsig-more#sha384"
	default:
		return "http://www.w3.org/2007/05/xmldsig-more#" + hashNames()[hash]
	}
}

func (r Request) digestHash() crypto.Hash {
	return cmp.Or(r.DigestHash, crypto.SHA256)
}

func (r Request) digest(octets string) string {
	return encode(hashOf(r.digestHash(), octets))
}

func hashOf(hash crypto.Hash, octets string) []byte {
	sum := hash.New()
	sum.Write([]byte(octets))
	return sum.Sum(nil)
}

func (w writer) reference(method, attributes, transforms, value string) string {
	return w.ds(false, "Reference", attributes,
		w.ds(false, "Transforms", "", transforms)+
			w.ds(false, "DigestMethod", algorithm(method), "")+
			w.ds(false, "DigestValue", "", value))
}

func (w writer) transform(uri string) string {
	return w.ds(false, "Transform", algorithm(uri), "")
}

func (r Request) value(octets string) ([]byte, error) {
	sum := hashOf(r.hash(), octets)
	switch key := r.Key.(type) {
	case *rsa.PrivateKey:
		if r.PSS {
			return rsa.SignPSS(rand.Reader, key, r.hash(), sum,
				&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.SignPKCS1v15(rand.Reader, key, r.hash(), sum)
	case *ecdsa.PrivateKey:
		x, y, err := ecdsa.Sign(rand.Reader, key, sum)
		if err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		size := (key.Params().N.BitLen() + 7) / 8
		rBytes, sBytes := x.FillBytes(make([]byte, size)), y.FillBytes(make([]byte, size))
		if r.EncodeECDSA != nil {
			return r.EncodeECDSA(rBytes, sBytes), nil
		}
		return append(rBytes, sBytes...), nil
	}
	return nil, fmt.Errorf("cannot sign with a %T", r.Key)
}

func algorithm(uri string) string {
	return ` Algorithm="` + uri + `"`
}

func encode(octets []byte) string {
	return base64.StdEncoding.EncodeToString(octets)
}
