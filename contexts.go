// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/framework"
	"golang.org/x/sync/semaphore"
)

const (
	fieldAllowedContexts = "allowed_contexts"
	// everyContext in allowed_contexts allows all.
	everyContext = "*"
)

func allowedContextsField() *framework.FieldSchema {
	return &framework.FieldSchema{
		Type: framework.TypeCommaStringSlice,
		Description: "Contexts that requests may name besides nip or internal_id of config: NIPs, identifiers of internal units, or * for all. " +
			"A role's own context needs no entry. Default: none.",
	}
}

func applyAllowedContexts(next *config, data *framework.FieldData) error {
	raw, given := data.GetOk(fieldAllowedContexts)
	if !given {
		return nil
	}
	allowed := fields.Distinct(raw.([]string))
	for i, value := range allowed {
		if value == everyContext {
			continue
		}
		if _, err := parseContext(value); err != nil {
			return &client.InputError{
				Field: fieldAllowedContexts, Fault: fmt.Sprintf("has at place %d what is no context (%v)", i+1, err),
				Remedy: "give NIPs such as 5265877635, identifiers of internal units such as 5265877635-12346, or *",
			}
		}
	}
	next.AllowedContexts = allowed
	return nil
}

// parseContext tells a NIP from the identifier of an internal unit by its dash.
func parseContext(value string) (client.ContextIdentifier, error) {
	if strings.Contains(value, "-") {
		return client.ParseInternalID(value)
	}
	return client.ParseNIP(value)
}

// contextUse is what a request does in the context that it names.
type contextUse int

const (
	// useToIssue makes something new: a token or a login.
	useToIssue contextUse = iota
	// useToManage reads and revokes what there is.
	useToManage
)

// requestContext returns the context that a request names, config's own where it names none, if
// somebody has allowed it for this use. It sends and stores nothing: a context that is not allowed
// costs no login.
func (b *backend) requestContext(ctx context.Context, data *framework.FieldData, use contextUse) (*connection, client.ContextIdentifier, error) {
	current, taxpayer, err := b.namedContext(ctx, data, use)
	if err == nil && taxpayer.IsZero() {
		taxpayer = current.config.Context
	}
	return current, taxpayer, err
}

// namedContext is requestContext, but zero where the request names none.
func (b *backend) namedContext(ctx context.Context, data *framework.FieldData, use contextUse) (*connection, client.ContextIdentifier, error) {
	taxpayer, err := contextFrom(data)
	if err != nil {
		return nil, taxpayer, err
	}
	current, err := b.connect(ctx)
	if err != nil || taxpayer.IsZero() {
		return current, taxpayer, err
	}
	return current, taxpayer, b.allowContext(ctx, current, taxpayer, use)
}

// allows says whether requests may name the context.
func (c *config) allows(taxpayer client.ContextIdentifier) bool {
	return c.names(taxpayer) || c.allowsEvery()
}

// names says that config itself names the context.
func (c *config) names(taxpayer client.ContextIdentifier) bool {
	return taxpayer == c.Context || slices.Contains(c.AllowedContexts, taxpayer.Value)
}

func (c *config) allowsEvery() bool { return slices.Contains(c.AllowedContexts, everyContext) }

func (b *backend) allowContext(ctx context.Context, current *connection, taxpayer client.ContextIdentifier, use contextUse) error {
	if current.config.names(taxpayer) {
		return nil
	}
	every := current.config.allowsEvery()
	if every {
		known, err := current.sessions.Known(ctx, taxpayer)
		if err != nil || (known != nil && time.Now().Before(known.Refresh.ValidUntil)) {
			return err
		}
	}
	if use == useToManage {
		open, err := b.openTargets.has(ctx, b.ledger, ledger.Target{API: current.config.URL, Context: taxpayer})
		if err != nil || open {
			return err
		}
	}
	if !every {
		return notAllowed(taxpayer)
	}
	if current.sessions.RemembersFailure(taxpayer) {
		return nil // the answer costs no login
	}
	if pause := b.firstLogins.admit(taxpayer, current.sessions.FailedAt(taxpayer), time.Now()); pause > 0 {
		return tooManyFirstLogins(pause)
	}
	return nil
}

func notAllowed(taxpayer client.ContextIdentifier) error {
	field := "nip"
	if taxpayer.Type == client.ContextInternalID {
		field = "internal_id"
	}
	return &client.InputError{
		Field: field, Fault: "names " + taxpayer.Value + ", which config does not allow",
		Remedy: "add it to allowed_contexts of config, or write a role with it and read creds/<role>",
	}
}

// Bounds of what * lets in: each first login costs a signature and requests that KSeF counts.
const (
	firstLoginsAtMost = 10
	firstLoginsWithin = time.Minute
)

func tooManyFirstLogins(pause time.Duration) error {
	return &statusError{status: http.StatusTooManyRequests, error: fmt.Errorf(
		"%d first logins have been made within a minute in contexts that %s lets in only through *%s. Contexts that it names do not wait",
		firstLoginsAtMost, fieldAllowedContexts, client.NextPermit(time.Now().Add(pause)))}
}

// firstLogins are the contexts that were lately admitted without a session, one mount's, oldest
// first.
type firstLogins struct {
	mu       sync.Mutex
	admitted []firstLogin
}

type firstLogin struct {
	context client.ContextIdentifier
	at      time.Time
}

// admit returns 0, or how long to wait. A context that was admitted within the minute is not
// counted twice, unless its login has failed since: then this is another login.
func (f *firstLogins) admit(taxpayer client.ContextIdentifier, failedAt, now time.Time) (pause time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.admitted = slices.DeleteFunc(f.admitted, func(one firstLogin) bool { return now.Sub(one.at) >= firstLoginsWithin })
	if slices.ContainsFunc(f.admitted, func(one firstLogin) bool { return one.context == taxpayer && failedAt.Before(one.at) }) {
		return 0
	}
	if len(f.admitted) >= firstLoginsAtMost {
		return f.admitted[0].at.Add(firstLoginsWithin).Sub(now)
	}
	f.admitted = append(f.admitted, firstLogin{taxpayer, now})
	return 0
}

// openTargetsLast is how long one reading of the ledger counts: requests for contexts that nobody
// has allowed must not cost one each.
const openTargetsLast = time.Minute

// openTargets remembers where the mount has open records.
type openTargets struct {
	lock *semaphore.Weighted

	mu    sync.Mutex
	known map[ledger.Target]struct{}
	until time.Time
}

// has reads the ledger where it was not read lately.
func (o *openTargets) has(ctx context.Context, records *ledger.Ledger, target ledger.Target) (bool, error) {
	if err := o.lock.Acquire(ctx, 1); err != nil {
		return false, fmt.Errorf("waiting for the reading of the ledger: %w", err)
	}
	defer o.lock.Release(1)
	if known, fresh := o.recall(target); fresh {
		return known, nil
	}
	read, err := records.OpenTargets(ctx)
	if err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known, o.until = read, time.Now().Add(openTargetsLast)
	_, open := read[target]
	return open, nil
}

func (o *openTargets) recall(target ledger.Target) (known, fresh bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, known = o.known[target]
	return known, time.Now().Before(o.until)
}

// add notes a record that was made after the last reading.
func (o *openTargets) add(target ledger.Target) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known != nil {
		o.known[target] = struct{}{}
	}
}
