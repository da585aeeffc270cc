// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// official behaves as the official Java client's integration tests (CIRFMF/ksef-client-java,
// BaseIntegrationTest): a new taxpayer for each test, a self-signed RSA seal, polling until KSeF
// has decided, and errors as problem details.
type official struct{ *api }

func newOfficial(t *testing.T) official {
	t.Helper()
	o := official{newAPI(t, simulator.Options{})}
	o.header.Set("X-Error-Format", "problem-details")
	return o
}

// oldErrors selects the older error format, as the tests named "OldWay" do.
func (o official) oldErrors() { o.header.Del("X-Error-Format") }

func (o official) nip() string {
	o.t.Helper()
	number, err := simulator.RandomNIP()
	require.NoError(o.t, err)
	return number
}

// await advances the simulator's clock by seconds until the condition is true, at most as long as
// the official tests poll.
func (o official) await(atMost time.Duration, condition func() bool) {
	o.t.Helper()
	for waited := time.Duration(0); !condition(); waited += time.Second {
		require.Less(o.t, waited, atMost, "KSeF has not decided in time")
		o.sim.Advance(time.Second)
	}
}

// auth logs a subject in to the context of a taxpayer (authWithCustomNip).
func (o official) auth(taxpayer, subject string) session {
	o.t.Helper()
	return o.authWith(taxpayer, newCredential(o.t, simulator.CertificateOptions{NIP: subject, Key: "rsa"}))
}

func (o official) authWith(taxpayer string, c credential) session {
	o.t.Helper()
	begun := o.begin(c, "<Nip>"+taxpayer+"</Nip>")
	o.awaitLogin(begun)
	return o.redeem(begun)
}

func (o official) awaitLogin(begun operation) {
	o.t.Helper()
	o.await(30*time.Second, func() bool {
		code, _ := o.status(begun)
		return code == http.StatusOK
	})
}

// authWithToken logs in with a KSeF token and returns the final code.
func (o official) authWithToken(taxpayer, token string) (operation, int) {
	o.t.Helper()
	request := o.tokenRequest(token)
	request["contextIdentifier"] = map[string]string{"type": "Nip", "value": taxpayer}
	begun := operationOf(o.want(http.StatusAccepted, "POST", "/auth/ksef-token", "", request))
	code := 0
	o.await(time.Minute, func() bool {
		code, _ = o.status(begun)
		return code != 100
	})
	return begun, code
}

// enrollAndRetrieve gets a certificate of KSeF's for the caller.
func (o official) enrollAndRetrieve(s session, key string) (credential, string) {
	o.t.Helper()
	data := o.want(http.StatusOK, "GET", "/certificates/enrollments/data", s.access, nil)
	require.NotEmpty(o.t, data.text("organizationIdentifier"))
	signer := newCredential(o.t, simulator.CertificateOptions{NIP: nip, Key: key}).key
	body := o.enrollment(s, "Authentication", signer)
	body["validFrom"] = time.Now().Add(-time.Minute).Format(time.RFC3339Nano)
	body["certificateName"] = "certificate"
	reference := o.enroll(s, body)
	o.await(30*time.Second,
		func() bool { return o.enrollmentStatus(s, reference).number("status.code") == http.StatusOK })
	serial := o.enrollmentStatus(s, reference).text("certificateSerialNumber")
	found := o.retrieve(s, serial)
	require.Len(o.t, found, 1)
	require.Equal(o.t, "Authentication", found[0]["certificateType"])
	return credential{signer, parseCertificate(o.t, found[0]["certificate"].(string))}, serial
}

// operation sends a request that starts an operation on permissions, and waits until it has
// succeeded.
func (o official) operation(s session, method, path string, body any) {
	o.t.Helper()
	reference := o.want(http.StatusAccepted, method, path, s.access, body).text("referenceNumber")
	o.await(30*time.Second, func() bool { return o.operationCode(s, reference) == http.StatusOK })
}

// openFA2 opens an invoice session with the form of the official session tests.
func (o official) openFA2(s session) string {
	o.t.Helper()
	request := o.invoiceSessionRequest()
	request["formCode"] = formCode("FA (2)", "1-0E", "FA")
	reference := o.want(http.StatusCreated, "POST", "/sessions/online", s.access, request).text("referenceNumber")
	require.NotEmpty(o.t, reference)
	return reference
}

// activeSessions returns the reference numbers of the caller's sessions, and that of the current
// one.
func (o official) activeSessions(s session) (references []string, current string) {
	o.t.Helper()
	for _, item := range o.want(http.StatusOK, "GET", "/auth/sessions?pageSize=10", s.access, nil).list("items") {
		references = append(references, item["referenceNumber"].(string))
		if item["isCurrent"] == true {
			current = item["referenceNumber"].(string)
		}
	}
	return references, current
}
