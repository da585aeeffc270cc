// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTestdataCertificateShortened(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	c, serial := a.newCertificate(owner, "Authentication")
	path := "/testdata/certificates/" + serial
	require.Equal(t, 200, a.loginCode(c))

	soon := time.Now().Add(time.Hour).Truncate(time.Second)
	a.want(http.StatusOK, "PUT", path, owner.access, object{"validTo": soon.Format(time.RFC3339)})
	listed := a.query(owner, "", object{}).list("certificates")[0]
	require.Equal(t, "Active", listed["status"])
	require.Equal(t, soon.UTC().Format("2006-01-02T15:04:05.0000000+00:00"), listed["validTo"])
	require.Empty(t, a.query(owner, "", object{"expiresAfter": soon.Add(time.Second)}).list("certificates"))
	require.Equal(t, 200, a.loginCode(c))
	a.refused(a.do("PUT", path, owner.access, object{"validTo": soon.Add(time.Second).Format(time.RFC3339)}), 21405,
		"validTo")

	a.sim.Advance(time.Hour + time.Minute)
	owner = a.login(seal(t), nipXML)
	code, detail := a.status(a.begin(c, nipXML))
	require.Equal(t, 460, code)
	require.Equal(t, "Nieważny certyfikat", detail)
	require.Equal(t, "Expired", a.query(owner, "", object{}).list("certificates")[0]["status"])
	require.Equal(t, "Expired", a.sim.State().Certificates[0].Status)
}

func TestTestdataCertificateShortenedByItsSubjectOnly(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	_, serial := a.newCertificate(owner, "Offline")
	path := "/testdata/certificates/" + serial
	past := object{"validTo": "2020-01-02T00:00:00Z"}
	a.refused(a.do("PUT", path, a.login(person(t), nipXML).access, past), 25008, "")
	a.refused(a.do("PUT", "/testdata/certificates/0123456789ABCDEF", owner.access, past), 25008, "")
	a.refused(a.do("PUT", "/testdata/certificates/x", owner.access, past), 21405, "Numer seryjny")
	a.refused(a.do("PUT", path, owner.access, object{}), 21405, "validTo")
	for _, text := range []string{"tomorrow", "0001-01-01T00:00:00Z", "0002-01-01T00:00:00+01:00",
		"9999-12-31T23:59:59-01:00"} {
		a.refused(a.do("PUT", path, owner.access, object{"validTo": text}), 21405, "datą i godziną")
	}
	a.want(http.StatusUnauthorized, "PUT", path, "", past)
	a.want(http.StatusOK, "PUT", path, owner.access, past)
	require.Equal(t, "Expired", a.query(owner, "", object{}).list("certificates")[0]["status"])
}
