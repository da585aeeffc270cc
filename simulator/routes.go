// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"net/http"
	"slices"
	"strings"
)

// scope is what the rate limit of an endpoint counts by.
type scope int

const (
	perContext scope = iota // and source address
	perClient
)

// unknownPattern matches what no endpoint does.
const unknownPattern = "/v2/"

// endpoint is one operation of the API.
type endpoint struct {
	name   string // method and path as in the OpenAPI, "GET /tokens/{referenceNumber}"
	scope  scope
	group  string   // of rate limits; "" is groupOther for those per context, else groupAnonymous
	bearer []string // the kinds of JWT that are accepted; none when no login is needed
	// requires lists permissions of which the access token must have one. Most endpoints have none.
	requires []string
	serve    func(*request) response
}

// endpoints lists the API, one group for each file.
func (s *Simulator) endpoints() []endpoint {
	return slices.Concat(
		s.authEndpoints(),
		s.sessionEndpoints(),
		s.tokenEndpoints(),
		s.certificateEndpoints(),
		s.permissionEndpoints(),
		s.testSubjectEndpoints(),
		s.securityEndpoints(),
		s.invoiceSessionEndpoints(),
		s.invoiceEndpoints(),
		s.limitEndpoints(),
	)
}

func (s *Simulator) routes() http.Handler {
	mux := http.NewServeMux()
	for _, e := range s.endpoints() {
		method, path, _ := strings.Cut(e.name, " ")
		mux.HandleFunc(method+" /v2"+path, func(w http.ResponseWriter, r *http.Request) { s.serve(e, w, r) })
	}
	mux.HandleFunc(unknownPattern, s.unknownPath(mux))
	s.addControl(mux)
	return mux
}
