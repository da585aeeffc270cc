// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"net/http"
	"slices"
	"strings"
)

// unknownPath responds to requests under /v2/ that match no endpoint, in KSeF's error format: 405
// where the path has an endpoint for another method, otherwise 404. The texts and the code are not
// documented.
func (s *Simulator) unknownPath(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		req := &request{Request: r, now: s.now()}
		resp := req.plainFailure(http.StatusNotFound, "Nie znaleziono zasobu.")
		if allowed := s.allowedMethods(mux, r); len(allowed) > 0 {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			resp = req.plainFailure(http.StatusMethodNotAllowed, "Metoda nie jest dozwolona dla tego zasobu.")
		}
		body := resp.encode()
		w.Header().Set("Date", req.now.Format(http.TimeFormat))
		resp.writeHeader(w, len(body))
		_, _ = w.Write(body) // the client may have disconnected
	}
}

// allowedMethods returns the methods with an endpoint for the path of a request.
func (s *Simulator) allowedMethods(mux *http.ServeMux, r *http.Request) []string {
	methods := []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}
	return slices.DeleteFunc(methods, func(method string) bool {
		probe := r.Clone(r.Context())
		probe.Method = method
		_, pattern := mux.Handler(probe)
		return pattern == unknownPattern
	})
}
