// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/limits"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// Permissions for operations of invoice sessions.
const (
	invoiceWrite    = "InvoiceWrite"
	pefInvoiceWrite = "PefInvoiceWrite"
	introspection   = "Introspection"
)

// invoiceSessionEndpoints are the operations of invoice sessions that show what a login may do.
// Invoices are not accepted.
func (s *Simulator) invoiceSessionEndpoints() []endpoint {
	access := []string{jwt.Access}
	toSend := []string{invoiceWrite, pefInvoiceWrite, enforcementOperations}
	toSee := []string{invoiceWrite, introspection, pefInvoiceWrite, enforcementOperations}
	toList := []string{invoiceWrite, introspection, enforcementOperations}
	toBatch := []string{invoiceWrite, enforcementOperations}
	return []endpoint{
		{
			name: "POST /sessions/online", group: limits.GroupOnlineSession,
			bearer: access, requires: toSend, serve: s.openInvoiceSession,
		},
		{
			name: "POST /sessions/online/{referenceNumber}/close", group: limits.GroupOnlineSessionClose,
			bearer: access, requires: toSend, serve: s.closeInvoiceSession,
		},
		{
			name: "POST /sessions/online/{referenceNumber}/invoices", group: limits.GroupInvoiceSend,
			bearer: access, requires: toSend, serve: s.sendInvoice,
		},
		{
			name: "GET /sessions", group: limits.GroupSessionList,
			bearer: access, requires: toList, serve: s.listInvoiceSessions,
		},
		{
			name: "GET /sessions/{referenceNumber}", group: limits.GroupSessionMisc,
			bearer: access, requires: toSee, serve: s.invoiceSessionStatus,
		},
		{
			name: "POST /sessions/batch", group: limits.GroupBatchSession,
			bearer: access, requires: toBatch, serve: s.refuseBatchSession,
		},
		{
			name: "POST /sessions/batch/{referenceNumber}/close", group: limits.GroupBatchSessionClose,
			bearer: access, requires: toBatch, serve: s.refuseBatchSession,
		},
	}
}

// ownOpenInvoiceSession returns the session of the path if it is open and the caller is its author,
// under this login or another (official IntrospectionPermissionIntegrationTests). prevented is the
// operation named in the refusal. The caller holds the lock.
func (s *Simulator) ownOpenInvoiceSession(req *request, prevented string) (*store.InvoiceSession, *response) {
	known, refused := s.findInvoiceSession(req, "odnaleziona")
	if refused != nil {
		return nil, refused
	}
	if known.Author != req.login.Identifier {
		// The refusal is from the official tests. Its reason is not documented.
		refused := req.insufficientAccess()
		return nil, &refused
	}
	if status := known.Status(req.now); status.Code != store.InvoiceSessionOpen {
		refused := req.failed(&apiError{21180, "Status sesji nie pozwala na wykonanie operacji.",
			[]string{fmt.Sprintf("Status sesji %d uniemożliwia %s.", status.Code, prevented)}})
		return nil, &refused
	}
	return known, nil
}

// findInvoiceSession returns the session of the path, which must be of the caller's context. found
// is the last word of KSeF's sentence for an unknown one; it differs between operations. The caller
// holds the lock.
func (s *Simulator) findInvoiceSession(req *request, found string) (*store.InvoiceSession, *response) {
	reference, wrong := req.reference()
	if wrong != nil {
		refused := req.failed(wrong)
		return nil, &refused
	}
	known := s.store.InvoiceSessions.ByReference[reference]
	if known == nil || known.Context != req.login.Context {
		refused := req.failed(&apiError{21173, "Brak sesji o wskazanym numerze referencyjnym.",
			[]string{"Sesja o numerze referencyjnym " + reference + " nie została " + found + "."}})
		return nil, &refused
	}
	return known, nil
}

// closeInvoiceSession serves POST /sessions/online/{referenceNumber}/close.
func (s *Simulator) closeInvoiceSession(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, refused := s.ownOpenInvoiceSession(req, "jej zamknięcie")
	if refused != nil {
		return *refused
	}
	known.Closed = req.now
	return noContent()
}

// sendInvoice serves POST /sessions/online/{referenceNumber}/invoices: it refuses what KSeF
// refuses, and is otherwise not implemented.
func (s *Simulator) sendInvoice(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, refused := s.ownOpenInvoiceSession(req, "wysyłkę faktur"); refused != nil {
		return *refused
	}
	return req.plainFailure(http.StatusNotImplemented, "Symulator nie przyjmuje faktur.")
}

// refuseBatchSession responds to the operations of batch sessions.
func (s *Simulator) refuseBatchSession(req *request) response {
	return req.plainFailure(http.StatusNotImplemented, "Symulator nie obsługuje sesji wsadowych.")
}

// Lengths of the key and vector of invoice encryption (AES-256-CBC), in bytes.
const (
	symmetricKeyLength = 32
	vectorLength       = 16
)

// openInvoiceSessionRequest is OpenOnlineSessionRequest.
type openInvoiceSessionRequest struct {
	FormCode   *formCode       `json:"formCode"`
	Encryption *encryptionInfo `json:"encryption"`
}

// formCode is FormCode.
type formCode struct {
	SystemCode    string `json:"systemCode"`
	SchemaVersion string `json:"schemaVersion"`
	Value         string `json:"value"`
}

// encryptionInfo is EncryptionInfo.
type encryptionInfo struct {
	SymmetricKey string  `json:"encryptedSymmetricKey"`
	Vector       string  `json:"initializationVector"`
	PublicKeyID  *string `json:"publicKeyId"`
}

// knownFormCodes are those of OpenAPI 2.7.0.
func knownFormCodes() []formCode {
	return []formCode{
		{"FA (2)", "1-0E", "FA"}, {"FA (3)", "1-0E", "FA"}, {"PEF (3)", "2-1", "PEF"}, {"PEF_KOR (3)", "2-1", "PEF"},
		{"FA_RR (1)", "1-1E", "FA_RR"},
	}
}

// openInvoiceSession serves POST /sessions/online. As at KSeF, a key that cannot be decrypted shows
// in the session's status.
func (s *Simulator) openInvoiceSession(req *request) response {
	var body openInvoiceSessionRequest
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	encrypted, refused := body.read()
	if refused != nil {
		return req.failed(refused)
	}
	keys, err := s.keys()
	if err != nil {
		return req.problemResponse(http.StatusInternalServerError, "Nie udało się utworzyć kluczy publicznych.")
	}
	if id := body.Encryption.PublicKeyID; id != nil && *id != keys.Invoices.PublicKeyID() {
		return req.failed(unknownPublicKey(*id))
	}
	opened := &store.InvoiceSession{
		Reference: ksef.NewReference(ksef.InvoiceSessionKind, req.now),
		Context:   req.login.Context, Author: req.login.Identifier, Created: req.now,
	}
	key, err := rsa.DecryptOAEP(sha256.New(), nil, keys.Invoices.Private, encrypted, nil)
	if err != nil || len(key) != symmetricKeyLength {
		opened.Failure = &store.StatusInfo{Code: store.InvoiceSessionBadKey,
			Description: "Błąd odszyfrowania dostarczonego klucza"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.InvoiceSessions.Add(opened)
	return response{status: http.StatusCreated,
		body: openedInvoiceSession{opened.Reference, timestamp(opened.ValidUntil())}}
}

// openedInvoiceSession is OpenOnlineSessionResponse.
type openedInvoiceSession struct {
	ReferenceNumber string    `json:"referenceNumber"`
	ValidUntil      timestamp `json:"validUntil"`
}

// read returns the encrypted key.
func (r openInvoiceSessionRequest) read() ([]byte, *apiError) {
	var wrong fieldErrors
	switch {
	case r.FormCode == nil:
		wrong.notEmpty("formCode")
	case !slices.Contains(knownFormCodes(), *r.FormCode):
		wrong.add("Wskazany kod formularza nie jest wspierany.")
	}
	if r.Encryption == nil {
		wrong.notEmpty("encryption")
		return nil, wrong.refusal()
	}
	encrypted, err := base64.StdEncoding.DecodeString(r.Encryption.SymmetricKey)
	if err != nil || len(encrypted) == 0 {
		wrong.add("Pole encryption.encryptedSymmetricKey musi być zapisane w base64.")
	}
	vector, err := base64.StdEncoding.DecodeString(r.Encryption.Vector)
	if err != nil || len(vector) != vectorLength {
		wrong.add("Pole encryption.initializationVector musi mieć 16 bajtów zapisanych w base64.")
	}
	if id := r.Encryption.PublicKeyID; id != nil && len(*id) != publicKeyIDLength {
		wrong.add("Pole encryption.publicKeyId musi mieć %d znaki.", publicKeyIDLength)
	}
	return encrypted, wrong.refusal()
}

// maxInvoiceSessionPageSize is the largest page of GET /sessions.
const maxInvoiceSessionPageSize = 1000

// invoiceSessionItem is SessionsQueryResponseItem.
type invoiceSessionItem struct {
	ReferenceNumber string `json:"referenceNumber"`
	invoiceSessionSummary
	TotalInvoices      int `json:"totalInvoiceCount"`
	SuccessfulInvoices int `json:"successfulInvoiceCount"`
	FailedInvoices     int `json:"failedInvoiceCount"`
}

// invoiceSessionSummary is SessionStatusResponse without the numbers of invoices, which KSeF leaves
// out while they are 0.
type invoiceSessionSummary struct {
	Status      store.StatusInfo `json:"status"`
	DateCreated timestamp        `json:"dateCreated"`
	DateUpdated timestamp        `json:"dateUpdated"`
	ValidUntil  timestamp        `json:"validUntil"`
}

// invoiceSessionList is SessionsQueryResponse.
type invoiceSessionList struct {
	ContinuationToken string               `json:"continuationToken,omitempty"`
	Sessions          []invoiceSessionItem `json:"sessions"`
}

func summaryOf(i *store.InvoiceSession, now time.Time) invoiceSessionSummary {
	return invoiceSessionSummary{
		i.Status(now), timestamp(i.Created), timestamp(i.Updated(now)), timestamp(i.ValidUntil()),
	}
}

// maySeeInvoiceSession reports whether the caller may see a session of its context: any with
// Introspection or EnforcementOperations, otherwise its own.
func (req *request) maySeeInvoiceSession(known *store.InvoiceSession) bool {
	return req.hasAny(introspection, enforcementOperations) || known.Author == req.login.Identifier
}

// invoiceSessionStatus serves GET /sessions/{referenceNumber}.
func (s *Simulator) invoiceSessionStatus(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, refused := s.findInvoiceSession(req, "znaleziona")
	if refused != nil {
		return *refused
	}
	if !req.maySeeInvoiceSession(known) {
		return req.insufficientAccess()
	}
	return ok(summaryOf(known, req.now))
}

// listInvoiceSessions serves GET /sessions: what the caller may see in its context, newest first.
func (s *Simulator) listInvoiceSessions(req *request) response {
	filter, refused := newInvoiceSessionFilter(req.URL.Query())
	if refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.store.InvoiceSessions.ByContext[req.login.Context]
	wanted, refused := req.newPageUpTo(maxInvoiceSessionPageSize, "invoices", len(all))
	if refused != nil {
		return req.failed(refused)
	}
	positions, next := wanted.pick(func(i int) bool {
		return req.maySeeInvoiceSession(all[i]) && filter.matches(all[i], req.now)
	})
	list := invoiceSessionList{ContinuationToken: next, Sessions: []invoiceSessionItem{}}
	for _, i := range positions {
		list.Sessions = append(list.Sessions, invoiceSessionItem{
			ReferenceNumber: all[i].Reference, invoiceSessionSummary: summaryOf(all[i], req.now),
		})
	}
	return ok(list)
}

// invoiceSessionFilter is the filter of GET /sessions.
type invoiceSessionFilter struct {
	online                    bool
	reference                 string
	statuses                  []string
	created, closed, modified period
}

// period is a time span. A zero end is open.
type period struct{ from, to time.Time }

func (p period) contains(t time.Time) bool {
	return (p.from.IsZero() || !t.Before(p.from)) && (p.to.IsZero() || !t.After(p.to))
}

func (p period) open() bool { return p.from.IsZero() && p.to.IsZero() }

// newInvoiceSessionFilter reads the query. Enum values match in any case.
func newInvoiceSessionFilter(query url.Values) (invoiceSessionFilter, *apiError) {
	kind, known := enumValue(query.Get("sessionType"), "Online", "Batch")
	if !known {
		return invoiceSessionFilter{}, badInput("Typ sesji %q jest nieznany.", query.Get("sessionType"))
	}
	filter := invoiceSessionFilter{online: kind == "Online", reference: query.Get("referenceNumber")}
	if query.Has("referenceNumber") {
		if refused := checkReference(filter.reference); refused != nil {
			return invoiceSessionFilter{}, refused
		}
	}
	for _, text := range query["statuses"] {
		status, known := enumValue(text, "InProgress", "Succeeded", "Failed", "Cancelled")
		if !known {
			return invoiceSessionFilter{}, badInput("Status %q jest nieznany.", text)
		}
		filter.statuses = append(filter.statuses, status)
	}
	for name, period := range map[string]*period{
		"dateCreated": &filter.created, "dateClosed": &filter.closed, "dateModified": &filter.modified,
	} {
		if refused := period.read(query, name); refused != nil {
			return invoiceSessionFilter{}, refused
		}
	}
	return filter, nil
}

func (p *period) read(query url.Values, name string) (refused *apiError) {
	if p.from, refused = queryTime(query, name+"From"); refused == nil {
		p.to, refused = queryTime(query, name+"To")
	}
	return refused
}

// queryTime reads an optional time.
func queryTime(query url.Values, name string) (time.Time, *apiError) {
	if !query.Has(name) {
		return time.Time{}, nil
	}
	moment, err := time.Parse(time.RFC3339, query.Get(name))
	if err != nil {
		return time.Time{}, badInput("Parametr %s nie jest datą i godziną.", name)
	}
	return moment, nil
}

func (f invoiceSessionFilter) matches(i *store.InvoiceSession, now time.Time) bool {
	ended := i.Ended(now)
	return f.online &&
		(f.reference == "" || f.reference == i.Reference) &&
		(len(f.statuses) == 0 || slices.Contains(f.statuses, commonStatusOf(i, now))) &&
		f.created.contains(i.Created) &&
		(f.closed.open() || !ended.IsZero() && f.closed.contains(ended)) &&
		f.modified.contains(i.Updated(now))
}

// commonStatusOf returns KSeF's CommonSessionStatus.
func commonStatusOf(i *store.InvoiceSession, now time.Time) string {
	switch i.Status(now).Code {
	case store.InvoiceSessionOpen:
		return "InProgress"
	case store.InvoiceSessionCancelled:
		return "Cancelled"
	}
	return "Failed"
}
