// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// TidyReport compares the ledger with KSeF's list.
type TidyReport struct {
	// Orphans are living tokens with this mount's mark and no open record.
	Orphans []string
	// StaleRecords are dead tokens with a live record. NeverActive are those among them that KSeF
	// has failed to activate.
	StaleRecords, NeverActive []string
	// Overdue tokens are alive after their lease's end and its grace.
	Overdue []string
	// Unknown tokens have a live record, and KSeF refuses to return them.
	Unknown []string
	// Unreadable are the storage keys of records that could not be read.
	Unreadable []string
	// Known counts living tokens with a record; Released those that a static role has handed back,
	// and Foreign the others without this mount's mark. These two are never touched.
	Known, Released, Foreign int
	// Revoking counts this mount's tokens in the context whose revocation had begun when the run
	// ended, as CountOpen does, and every orphan that the run has had revoked.
	Revoking int
	// Closed counts the stale records that were closed or, of released tokens, removed; 0 in a dry
	// run. Those of a token that a role holds stay, since the role replaces the token.
	Closed int
	// Incomplete is why the run ended early; nil where it did not.
	Incomplete error
}

// tidyMaxWait is how long one request of a tidy waits. It goes only when no other request wants the
// permit.
const tidyMaxWait = 20 * time.Second

var tidyWait = ratelimit.Wait{AtMost: tidyMaxWait, Background: true}

// Tidy reconciles the ledger with KSeF's list in one context. A dry run changes nothing. Where ctx
// ends or KSeF's limits are used up, the report is incomplete.
func (l *Ledger) Tidy(ctx context.Context, target Target, dryRun bool) (*TidyReport, error) {
	api, err := l.Upstream(ctx, target, tidyWait)
	if err != nil {
		return nil, err
	}
	mountID, err := l.id(ctx)
	if err != nil {
		return nil, err
	}
	tidy := &tidy{
		ledger: l, api: api, target: target, mountID: mountID, dryRun: dryRun,
		began: time.Now(), unleased: make(map[string]*Record), alive: make(map[string]struct{}), takenUp: make(map[string]struct{}),
	}
	if err := errors.Join(tidy.run(ctx), tidy.countRevoking(ctx)); err != nil {
		return nil, err
	}
	return &tidy.report, nil
}

// tidy is one run.
type tidy struct {
	ledger  *Ledger
	api     Upstream
	target  Target
	mountID string
	dryRun  bool
	began   time.Time
	// unleased are the records of tokens without a lease, as the run began.
	unleased map[string]*Record
	alive    map[string]struct{}
	takenUp  map[string]struct{}
	report   TidyReport
}

// run leaves an incomplete report where time or KSeF's limits run out.
func (t *tidy) run(ctx context.Context) error {
	err := t.readUnleased(ctx)
	for _, step := range []func(context.Context) error{t.tokens, t.records, t.unleasedRecords} {
		if err == nil {
			err = step(ctx)
		}
	}
	if errors.As(err, new(*ratelimit.ExhaustedError)) || errors.Is(err, context.DeadlineExceeded) || client.IsRateLimited(err) {
		t.report.Incomplete = err
		return nil
	}
	return err
}

// countRevoking has its own time, since the report is returned when ctx has ended, too.
func (t *tidy) countRevoking(ctx context.Context) error {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	revoking := t.ledger.reconciler.endings()
	if _, err := t.ledger.addRecordedEndings(ctx, revoking); err != nil {
		return err
	}
	for referenceNumber, target := range revoking {
		if target == t.target {
			t.takenUp[referenceNumber] = struct{}{}
		}
	}
	t.report.Revoking = len(t.takenUp)
	return nil
}

func (t *tidy) tokens(ctx context.Context) error {
	query := client.TokenQuery{Statuses: []string{string(client.StatusPending), string(client.StatusActive)}}
	for tokens, err := range listPages(ctx, t.api, query) {
		if err != nil {
			return fmt.Errorf("reading KSeF's list: %w", err)
		}
		for _, token := range tokens {
			if err := t.token(ctx, &token); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tidy) token(ctx context.Context, token *client.Token) error {
	t.alive[token.ReferenceNumber] = struct{}{}
	mount, nonce, marked := parseMarker(token.Description)
	switch record := t.unleased[token.ReferenceNumber]; {
	case record != nil && record.State == Released:
		t.report.Released++
		return nil
	case record != nil:
		t.report.Known++
		return nil
	case !marked || mount != t.mountID:
		t.report.Foreign++
		return nil
	}
	known, err := t.isKnown(ctx, nonce, token.ReferenceNumber)
	if err != nil {
		return err
	}
	if known {
		t.report.Known++
		return nil
	}
	t.report.Orphans = append(t.report.Orphans, token.ReferenceNumber)
	if t.dryRun {
		return nil
	}
	record := reconstruct(t.target.API, nonce, token)
	if err := t.ledger.beginRevocation(ctx, record, "tidy found it without a record"); err != nil {
		return err
	}
	t.takenUp[token.ReferenceNumber] = struct{}{}
	return nil
}

// isKnown says that a token has a record. An intent is one: its request is in progress, or the
// reconciler searches for the token; an unreadable intent is not, since no task goes on with it. A
// dead record of a living token does not count; an unreadable one does, since there may be a lease.
// It reads in the order in which records move.
func (t *tidy) isKnown(ctx context.Context, nonce, referenceNumber string) (bool, error) {
	intent, err := t.ledger.store.get(ctx, issuingKey(nonce))
	switch {
	case errors.Is(err, errUnreadableRecord):
		t.report.Unreadable = append(t.report.Unreadable, issuingKey(nonce))
		if t.ledger.isInFlight(nonce) {
			return true, nil
		}
	case err != nil || intent != nil:
		return intent != nil, err
	}
	record, err := t.ledger.store.locate(ctx, nonce, referenceNumber)
	if errors.Is(err, errUnreadableRecord) {
		return true, nil
	}
	return record != nil && record.State != Dead, err
}

// records checks the live records that were not in KSeF's list.
func (t *tidy) records(ctx context.Context) error {
	prefixes, err := t.ledger.store.livePrefixes(ctx)
	if err != nil {
		return err
	}
	return t.ledger.store.eachName(ctx, prefixes, func(prefix, referenceNumber string) error {
		return t.record(ctx, prefix+referenceNumber, referenceNumber)
	})
}

func (t *tidy) record(ctx context.Context, key, referenceNumber string) error {
	_, alive := t.alive[referenceNumber]
	bucket, _, _ := strings.Cut(strings.TrimPrefix(key, livePrefix), "/")
	mayBeOverdue := bucketStart(bucket).Add(deadlineGrace).Before(t.began)
	if alive && !mayBeOverdue {
		return nil
	}
	record, err := t.ledger.store.get(ctx, key)
	if errors.Is(err, errUnreadableRecord) {
		t.report.Unreadable = append(t.report.Unreadable, key)
		return nil
	}
	if err != nil || record == nil || record.Target != t.target || record.Created.After(t.began) {
		return err
	}
	if alive {
		if record.Deadline.Add(deadlineGrace).Before(t.began) {
			t.report.Overdue = append(t.report.Overdue, referenceNumber)
		}
		return nil
	}
	return t.closeStale(ctx, record)
}

// closeStale closes the record of a leased token that is dead.
func (t *tidy) closeStale(ctx context.Context, record *Record) error {
	dead, err := t.deadToken(ctx, record)
	if err != nil || dead == nil || t.dryRun || t.ledger.reconciler.isEnding(record.ReferenceNumber) {
		return err
	}
	t.ledger.reconciler.forgetOverdue(record.ReferenceNumber)
	live := record.key()
	record.State, record.Ended, record.Cause = Dead, time.Now().UTC(), "KSeF says that it is "+string(dead.Status)
	if err := t.ledger.store.put(ctx, record); err != nil {
		return err
	}
	t.report.Closed++
	return t.ledger.store.remove(ctx, live)
}

// deadToken asks KSeF about a token that was not in its list, where one that was made during the
// run may be missing. It reports a dead token as stale and returns it; nil for others.
func (t *tidy) deadToken(ctx context.Context, record *Record) (*client.Token, error) {
	token, err := t.api.Token(ctx, record.ReferenceNumber)
	refused := err != nil && scopeOf(err) == ofTask
	if refused && record.Unleased() {
		token, err = t.ledger.askItself(ctx, t.target, record.ReferenceNumber, tidyWait, err)
	}
	switch {
	case err != nil && refused:
		t.report.Unknown = append(t.report.Unknown, record.ReferenceNumber)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("asking about %s: %w", record.ReferenceNumber, err)
	case !token.Status.Dead():
		return nil, nil
	}
	t.report.StaleRecords = append(t.report.StaleRecords, record.ReferenceNumber)
	if token.Status == client.StatusFailed {
		t.report.NeverActive = append(t.report.NeverActive, record.ReferenceNumber)
	}
	return token, nil
}

// readUnleased reads the records of the tokens without a lease, since imported ones have no mark.
func (t *tidy) readUnleased(ctx context.Context) error {
	records, unreadable, err := t.ledger.unleased(ctx)
	t.report.Unreadable = unreadable
	for _, record := range records {
		t.unleased[record.ReferenceNumber] = &record
	}
	return err
}

// unleasedRecords checks the records of tokens without a lease that were not in KSeF's list. The
// record of a dead token stays where a role holds it, since the role replaces the token.
func (t *tidy) unleasedRecords(ctx context.Context) error {
	for _, referenceNumber := range slices.Sorted(maps.Keys(t.unleased)) {
		record := t.unleased[referenceNumber]
		if _, alive := t.alive[referenceNumber]; alive || record.Target != t.target || record.Created.After(t.began) {
			continue
		}
		dead, err := t.deadToken(ctx, record)
		if err == nil && dead != nil && record.State == Released && !t.dryRun {
			err = t.ledger.store.remove(ctx, record.key(), textKey(referenceNumber))
			t.report.Closed++
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckMountID checks a mount's identifier that a user has given.
func CheckMountID(value string) error {
	if mountIDPattern.MatchString(value) {
		return nil
	}
	return &client.InputError{
		Field: "mount_id", Fault: "is not the id of a mount",
		Remedy: "give the 12 digits, 0 to 9 and a to f, that follow \"vault:\" in the description of its tokens; the log and status of the mount have shown them too",
	}
}

// FormerTokens lists the living tokens in a context that have the mark of another mount. It fails
// where it cannot read all pages.
func (l *Ledger) FormerTokens(ctx context.Context, target Target, mountID string) ([]client.Token, error) {
	api, err := l.Upstream(ctx, target, tidyWait)
	if err != nil {
		return nil, err
	}
	query := client.TokenQuery{
		Description: mountMark(mountID), Statuses: []string{string(client.StatusPending), string(client.StatusActive)},
	}
	var found []client.Token
	for tokens, err := range listPages(ctx, api, query) {
		if err != nil {
			return nil, fmt.Errorf("reading KSeF's list: %w", err)
		}
		for _, token := range tokens {
			if mount, _, marked := parseMarker(token.Description); marked && mount == mountID {
				found = append(found, token)
			}
		}
	}
	return found, nil
}

// RevokeFormer revokes tokens that FormerTokens has listed, and returns the numbers of those whose
// end KSeF has confirmed. The error is why there are others.
func (l *Ledger) RevokeFormer(ctx context.Context, target Target, tokens []client.Token) (revoked []string, err error) {
	api, err := l.Upstream(ctx, target, tidyWait)
	if err != nil {
		return nil, err
	}
	var refused error
	for _, token := range tokens {
		err := l.reconciler.revokeUpstream(ctx, api, &Record{ReferenceNumber: token.ReferenceNumber, Target: target})
		switch {
		case err == nil:
			revoked = append(revoked, token.ReferenceNumber)
		case scopeOf(err) == ofTask:
			refused = err
		default:
			return revoked, err
		}
	}
	return revoked, refused
}

// formerRemedy says which configuration can revoke a former mount's token.
func formerRemedy(api string, taxpayer client.ContextIdentifier) string {
	field := "nip"
	if taxpayer.Type == client.ContextInternalID {
		field = "internal_id"
	}
	return fmt.Sprintf(". The token was issued by a mount that was at this path before: to revoke it this mount needs a config "+
		"with url=%s and a credential that may revoke tokens in %s=%s", api, field, taxpayer.Value)
}
