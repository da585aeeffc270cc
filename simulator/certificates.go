// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"vault-plugin-secrets-ksef/simulator/internal/jwt"
)

func (s *Simulator) certificateEndpoints() []endpoint {
	access := []string{jwt.Access}
	return []endpoint{
		{name: "GET /certificates/limits", bearer: access, serve: s.certificateLimits},
		{name: "GET /certificates/enrollments/data", bearer: access, serve: s.enrollmentData},
		{name: enrollEndpoint, bearer: access, serve: s.enroll},
		{name: "GET /certificates/enrollments/{referenceNumber}", bearer: access, serve: s.enrollmentStatus},
		{name: "POST /certificates/retrieve", bearer: access, serve: s.retrieveCertificates},
		{name: "POST /certificates/query", bearer: access, serve: s.queryCertificates},
		{name: "POST /certificates/{certificateSerialNumber}/revoke", bearer: access, serve: s.revokeCertificate},
	}
}
