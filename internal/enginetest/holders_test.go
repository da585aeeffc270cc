// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"crypto"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/accesstoken"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/internal/unleased"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// holderState is what tests read of the stored state of a holder.
type holderState struct {
	Key      unleased.Key    `json:"key"`
	Current  *namedToken     `json:"current"`
	Pending  *namedToken     `json:"pending"`
	Previous []previousToken `json:"previous"`
}

type namedToken struct {
	ReferenceNumber string `json:"reference_number"`
	Dead            bool   `json:"dead"`
}

type previousToken struct {
	ReferenceNumber string    `json:"reference_number"`
	Until           time.Time `json:"until"`
}

// storedRole is what tests read of a stored role.
type storedRole struct {
	CredentialType string `json:"credential_type"`
	Login          string `json:"login"`
}

// revocationGrace is time for KSeF's limits and for repeated attempts.
const revocationGrace = 3 * time.Hour

// rotationBound is longer than a rotation waits for KSeF to activate a token.
const rotationBound = time.Minute

// named returns the tokens that the holder may have alive.
func (h *holderState) named() []string {
	var all []string
	for _, token := range []*namedToken{h.Current, h.Pending} {
		if token != nil {
			all = append(all, token.ReferenceNumber)
		}
	}
	for _, before := range h.Previous {
		if time.Since(before.Until) < revocationGrace {
			all = append(all, before.ReferenceNumber)
		}
	}
	return all
}

// readHolders reads the states of the holders of one mount.
func readHolders(storage logical.Storage) ([]holderState, error) {
	var holders []holderState
	err := eachEntry(storage, unleased.StoragePrefix, func(entry *logical.StorageEntry) error {
		var holder holderState
		if err := entry.DecodeJSON(&holder); err != nil {
			return fmt.Errorf("%s: %w", entry.Key, err)
		}
		holders = append(holders, holder)
		return nil
	})
	return holders, err
}

// eachEntry calls do for the entries with a prefix; those that are removed in between are skipped.
func eachEntry(storage logical.Storage, prefix string, do func(entry *logical.StorageEntry) error) error {
	ctx := context.Background()
	keys, err := logical.CollectKeysWithPrefix(ctx, storage, prefix)
	if err != nil {
		return err
	}
	for _, key := range keys {
		entry, err := storage.Get(ctx, key)
		if err != nil {
			return err
		}
		if entry == nil {
			continue
		}
		if err := do(entry); err != nil {
			return err
		}
	}
	return nil
}

// mayHold reports whether the holder's role exists and is of the holder's kind.
func mayHold(storage logical.Storage, key unleased.Key) (bool, error) {
	if key.Kind == ledger.HolderStatic {
		entry, err := storage.Get(context.Background(), "static-roles/"+key.Role)
		return entry != nil, err
	}
	entry, err := storage.Get(context.Background(), "roles/"+key.Role)
	if err != nil || entry == nil {
		return false, err
	}
	var role storedRole
	err = entry.DecodeJSON(&role)
	return role.CredentialType == "access_token" && role.Login != "certificate", err
}

// wanted are the tokens without a lease that may be alive: those of the holders of all mounts,
// those that a rotation has just made and has yet to name, and those that were handed back. It
// fails where a holder is left without its role.
func (c *Cluster) wanted(open map[string]*ledger.Record) (map[string]bool, error) {
	wanted := make(map[string]bool)
	for _, flaky := range c.Storages {
		holders, err := readHolders(flaky.Storage)
		if err != nil {
			return nil, err
		}
		for _, holder := range holders {
			exists, err := mayHold(flaky.Storage, holder.Key)
			if err != nil {
				return nil, err
			}
			if !exists {
				return nil, fmt.Errorf("the token of %s is kept though its role does not want it", holder.Key)
			}
			for _, number := range holder.named() {
				wanted[number] = true
			}
		}
	}
	for _, record := range open {
		justMade := record.Unleased() && record.State == ledger.Live && time.Since(record.Created) < rotationBound
		if record.State == ledger.Released || justMade {
			wanted[record.ReferenceNumber] = true
		}
	}
	return wanted, nil
}

// accessSessionsPiledUp finds a token with more than one session that can be refreshed: a login
// with a token is for one key. Readers end theirs. A token made by hand may have one more, from its
// proof.
func (c *Cluster) accessSessionsPiledUp() error {
	sessions := c.accessSessions()
	for token, open := range sessions {
		if len(open) > 1 && !c.foreign.wasOffered(token) {
			return fmt.Errorf("%d sessions of the token %s are alive: %v", len(open), token, open)
		}
	}
	return nil
}

// accessSessions are the sessions that can be refreshed, by the numbers of the tokens that they
// were opened with.
func (env *Env) accessSessions() map[string][]string {
	alive := make(map[string]bool)
	for _, token := range env.AliveTokens() {
		alive[token.ReferenceNumber] = true
	}
	sessions := make(map[string][]string)
	for _, one := range env.KSeF.State().Sessions {
		if one.Active && alive[one.TokenReferenceNumber] {
			sessions[one.TokenReferenceNumber] = append(sessions[one.TokenReferenceNumber], one.ReferenceNumber)
		}
	}
	return sessions
}

// certificateKeys counts the access tokens that are kept by a login with the certificate, in all
// mounts.
func (c *Cluster) certificateKeys() (count int, err error) {
	for _, flaky := range c.Storages {
		err := eachEntry(flaky.Storage, accesstoken.StoragePrefix, func(entry *logical.StorageEntry) error {
			var read struct {
				Role   string `json:"role"`
				Static bool   `json:"static"`
			}
			if err := entry.DecodeJSON(&read); err != nil {
				return err
			}
			stored, err := flaky.Storage.Get(context.Background(), "roles/"+read.Role)
			if err != nil || stored == nil || read.Static {
				return err
			}
			var role storedRole
			err = stored.DecodeJSON(&role)
			if role.Login == "certificate" {
				count++
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return count, nil
}

// madeByHand is the description of tokens that others than the engine have made.
const madeByHand = "Made by hand"

func isForeign(token simulator.TokenState) bool { return token.Description == madeByHand }

// touchedForeign finds a token that was made by hand, that no mount was asked to import, and that
// was revoked.
func (c *Cluster) touchedForeign() error {
	for _, token := range c.KSeF.State().Tokens {
		if isForeign(token) && !c.foreign.wasOffered(token.ReferenceNumber) && (token.Status == "Revoking" || token.Status == "Revoked") {
			return fmt.Errorf("the token %s, which is not ours, is %s", token.ReferenceNumber, token.Status)
		}
	}
	return nil
}

// deleteHolders deletes the roles that keep tokens, of all mounts.
func (c *Cluster) deleteHolders() {
	for _, v := range c.Vaults {
		for _, folder := range []string{"static-roles/", "roles/"} {
			for _, name := range v.roleNames(folder) {
				_, _ = v.Request(context.Background(), func(m *Mount) (*logical.Response, error) { return m.Delete(folder + name) })
			}
		}
	}
}

// roleNames lists the roles in a folder, but for those that every mount of a cluster has.
func (v *Vault) roleNames(folder string) []string {
	response, err := v.Request(context.Background(), func(m *Mount) (*logical.Response, error) { return m.List(folder) })
	if err != nil || response == nil {
		return nil
	}
	names, _ := response.Data["keys"].([]string)
	return slices.DeleteFunc(names, func(name string) bool {
		return slices.Contains([]string{"invoices", "unit"}, strings.TrimSuffix(name, "/"))
	})
}

// makeForeign makes a token by hand, as a person does in KSeF's application, and returns its text.
func (c *Cluster) makeForeign(ctx context.Context, permissions ...string) (string, error) {
	person := c.Signer(simulator.CertificateOptions{PESEL: PESEL}).certificate
	signer, err := session.NewSigner(person.Leaf, person.PrivateKey.(crypto.Signer), "certificateSubject", session.ToConfig(nil))
	if err != nil {
		return "", err
	}
	api := c.readersAPI()
	operation, _, err := session.BySignature(signer)(ctx, api, client.ContextIdentifier{Type: client.ContextNIP, Value: NIP})
	if err != nil {
		return "", err
	}
	tokens, err := session.Complete(ctx, api, operation)
	if err != nil {
		return "", err
	}
	made, err := api.WithTokenSource(tokens.Access.Token).GenerateToken(ctx, client.TokenRequest{Permissions: permissions, Description: madeByHand})
	if err != nil {
		return "", err
	}
	c.Remember(made.Token.Reveal())
	return made.Token.Reveal(), api.EndSession(ctx, tokens.Access.Token)
}

// offer records that a mount is asked to import a token that was made by hand.
func (f *foreignTokens) offer(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	number, _, _ := strings.Cut(text, "|")
	f.offered = append(f.offered, number)
}

func (f *foreignTokens) wasOffered(number string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.offered, number)
}

// readersAPI is the way to KSeF of others than the engine, from other machines.
func (c *Cluster) readersAPI() *client.Client {
	api, err := client.New(client.Config{URL: URL, Transport: &othersTransport{c.Network.ksef, &c.foreign}})
	require.NoError(c.T, err)
	return api
}

func (f *foreignTokens) count(endpoint string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sent == nil {
		f.sent = make(map[string]int)
	}
	f.sent[endpoint]++
}

func (f *foreignTokens) sentTo(endpoint string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent[endpoint]
}

// othersTransport counts what others than the engine send.
type othersTransport struct {
	http.RoundTripper
	foreign *foreignTokens
}

// RoundTrip implements http.RoundTripper.
func (o *othersTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	o.foreign.count(endpointOf(request))
	return o.RoundTripper.RoundTrip(request)
}
