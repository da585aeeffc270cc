// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

// The codes by which this engine decides, or which it explains, as KSeF's OpenAPI 2.7.0 has them.

// Exception codes of a request that KSeF has refused.
const (
	codeInvalidDocument     = 9101
	codeNoSignature         = 9102
	codeTooManySignatures   = 9103
	codeInvalidSignature    = 9105
	codeUnreadableContent   = 21001
	codeInvalidChallenge    = 21111
	codeInvalidCertificate  = 21115
	codeInvalidContext      = 21117
	codeInvalidEncoding     = 21217
	codeInvalidSchema       = 21401
	codeWrongSubjectType    = 21406
	codeInvalidContinuation = 21418
	codeUnknownPublicKey    = 21470 // or one that KSeF has withdrawn
	codeNoEnrollmentData    = 25001
	codeMayNotEnroll        = 25002
	codeOtherSubject        = 25003
	codeInvalidCSR          = 25004
	codeEnrollmentLimit     = 25006
	codeCertificateLimit    = 25007
	codeInvalidKey          = 25010
	codeInvalidCSRSignature = 25011
	codePermissionNotHeld   = 26001
	codeContextWithoutToken = 26002

	// CodeNotRedeemable says that a login has not succeeded yet, has been redeemed, or was made
	// with a KSeF token that has been revoked.
	CodeNotRedeemable = 21301
	// CodeUnknownLogin says that KSeF does not know the login.
	CodeUnknownLogin = 21304
	// CodeDeceased says that the person who has logged in has died.
	CodeDeceased = 21308
	// CodeInvalidValue says that KSeF cannot use a value, such as a number that it does not know.
	CodeInvalidValue = 21405
	// CodeUnknownEnrollment says that KSeF does not know the request for a certificate.
	CodeUnknownEnrollment = 25005
	// CodeUnknownCertificate says that KSeF does not know the certificate.
	CodeUnknownCertificate = 25008
	// CodeCertificateEnded says that the certificate has been revoked, is blocked or has expired.
	CodeCertificateEnded = 25009
)

// Status codes of a login. Those that are not pending and not done are final refusals.
const (
	statusLoginPending     = 100
	statusLoginRevoked     = 425
	statusLoginCertificate = 460
	statusLoginDeceased    = 470
	statusLoginBlocked     = 480
	statusLoginFailed      = 500
	statusLoginInterrupted = 550

	// LoginDone is the status code of a login that has succeeded.
	LoginDone = 200
	// LoginWithoutPermission is the status code of one whose subject has no permission in the
	// context.
	LoginWithoutPermission = 415
	// LoginTokenRefused is the status code of one whose KSeF token was not accepted, such as a
	// revoked one.
	LoginTokenRefused = 450
)

// Status codes of a request for a certificate. Those that are not pending and not done are final
// refusals.
const (
	EnrollmentPending = 100
	EnrollmentDone    = 200

	statusEnrollmentRefused     = 400
	statusEnrollmentFailed      = 500
	statusEnrollmentInterrupted = 550
)

// Reason codes of a 403.
const (
	reasonMissingPermissions = "missing-permissions"
	reasonAddress            = "ip-not-allowed"
	reasonNoAccess           = "insufficient-resource-access"
	reasonLoginMethod        = "auth-method-not-allowed"
	reasonBlocked            = "security-service-blocked"
	reasonContextType        = "context-type-not-allowed"
)
