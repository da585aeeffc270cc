// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"
)

// Explain returns an English sentence on what KSeF's refusal means for the operator; "" where there
// is nothing to add to KSeF's own text.
func (e *APIError) Explain() string {
	for _, problem := range e.Problems {
		if sentence := explanations[problem.Code]; sentence != "" {
			return sentence
		}
	}
	if e.Status == http.StatusForbidden {
		return e.explainReason()
	}
	switch {
	case e.Status < http.StatusBadRequest:
		return "KSeF documents no redirects: check url in config, and what stands between Vault and KSeF."
	case e.Status >= http.StatusInternalServerError:
		return "The fault is KSeF's, or that of what stands before it: try again later."
	case e.Status == http.StatusNotFound && e.Endpoint == EndpointChallenge:
		return "Nothing answers at this address: url in config must be KSeF's base address with its version, such as " + TestURL + "."
	}
	switch e.Status {
	case http.StatusUnauthorized:
		return "KSeF did not accept the session's token."
	case http.StatusGone:
		return "KSeF no longer keeps the status of this login or request."
	case http.StatusTooManyRequests:
		return "KSeF's request limit is used up for this context or address" + NextPermit(e.RetryAt) + "."
	case http.StatusUnsupportedMediaType:
		return "KSeF did not accept the content type."
	}
	return ""
}

// NextPermit is the end of a sentence that says when the next request may go, and in how many
// seconds from now; "" for a zero time.
func NextPermit(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	text := "; next slot at " + at.Add(time.Second-1).UTC().Format(time.RFC3339)
	if left := time.Until(at); left > 0 {
		text += fmt.Sprintf(", in %d s", int(math.Ceil(left.Seconds())))
	}
	return text
}

// explanations are of the exception codes of logins, tokens and certificates.
var explanations = map[int]string{
	codeInvalidDocument:     "The signed document is not XML with exactly one signature.",
	codeNoSignature:         "The signed document is not XML with exactly one signature.",
	codeTooManySignatures:   "The signed document is not XML with exactly one signature.",
	codeInvalidSignature:    "The signature did not verify, or its format is not an accepted XAdES profile.",
	codeUnreadableContent:   "KSeF could not read the content of the request.",
	codeInvalidChallenge:    "The challenge is unknown, older than ten minutes or already used.",
	codeInvalidCertificate:  "KSeF does not accept the certificate: check its subject, its validity and that it belongs to this environment.",
	codeInvalidContext:      "The context identifier is not valid for its type: check the NIP or the internal id.",
	codeInvalidEncoding:     "The document is not UTF-8.",
	CodeNotRedeemable:       "The login can no longer be used; a new one is needed.",
	CodeUnknownLogin:        "The login can no longer be used; a new one is needed.",
	CodeDeceased:            deceasedSentence,
	codeInvalidSchema:       "The document does not follow KSeF's schema.",
	CodeInvalidValue:        "KSeF found a value in the request invalid.",
	codeWrongSubjectType:    "The kind of certificate does not fit subject_identifier_type.",
	codeInvalidContinuation: "The continuation token is not valid: it belongs to another query, or is too old.",
	codeUnknownPublicKey:    "KSeF does not know the public key that the token was encrypted with, or has withdrawn it: log in again with the newest key.",
	codeNoEnrollmentData:    "KSeF certifies a key only under a session that was opened with a certificate.",
	codeMayNotEnroll:        "KSeF certifies a key only under a session that was opened with a certificate.",
	codeOtherSubject:        "The request for a certificate does not name the subject as KSeF wants it.",
	codeInvalidCSR:          "KSeF does not accept the request for a certificate or its key.",
	codeInvalidKey:          "KSeF does not accept the request for a certificate or its key.",
	codeInvalidCSRSignature: "KSeF does not accept the request for a certificate or its key.",
	CodeUnknownEnrollment:   "KSeF does not know this request for a certificate.",
	codeEnrollmentLimit:     "The subject has made as many requests for certificates as KSeF allows in 30 days.",
	codeCertificateLimit:    "The subject has as many active certificates as KSeF allows: revoke one that is no longer used.",
	CodeUnknownCertificate:  "KSeF does not know the certificate, or it has already been revoked.",
	CodeCertificateEnded:    "KSeF does not know the certificate, or it has already been revoked.",
	codePermissionNotHeld:   "The signing subject cannot grant a permission that it does not hold in this context.",
	codeContextWithoutToken: "KSeF makes tokens only in the context of a NIP or an internal id.",
}

// deceasedSentence is for requests and for logins.
const deceasedSentence = "KSeF accepts no login by means of a person who has died."

// reasons explain a 403 by its reason code.
var reasons = map[string]string{
	reasonAddress:     "The session is bound to other IP addresses.",
	reasonNoAccess:    "The signing subject has no access to this resource.",
	reasonLoginMethod: "KSeF asks for another way of logging in: tokens are made under a XAdES signature only.",
	reasonBlocked:     "KSeF has blocked this subject for security reasons.",
	reasonContextType: "This type of context cannot do that.",
}

func (e *APIError) explainReason() string {
	if e.ReasonCode == reasonMissingPermissions {
		return e.explainPermissions()
	}
	return cmp.Or(reasons[e.ReasonCode], "The signing subject may not do this.")
}

func (e *APIError) explainPermissions() string {
	if len(e.Required) == 0 {
		return "The signing subject lacks a permission in this context."
	}
	present := "none"
	if len(e.Present) > 0 {
		present = strings.Join(e.Present, ", ")
	}
	return fmt.Sprintf("The signing subject lacks a permission in this context: KSeF asks for %s, and it has %s.",
		strings.Join(e.Required, " or "), present)
}
