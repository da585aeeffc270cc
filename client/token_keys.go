// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	publicKeyUsageTokens = "KsefTokenEncryption"
	// tokenKeysLast is how long fetched keys are used: one that KSeF publishes beside them is taken
	// within a day.
	tokenKeysLast = 24 * time.Hour
)

// PublicKey is a key of KSeF's for encrypting what is sent to it.
type PublicKey struct {
	ID          string
	key         *rsa.PublicKey
	from, until time.Time // on this machine's clock
}

var errNoTokenKey = errors.New("KSeF publishes no RSA key that is valid now for encrypting tokens")

// TokenKey returns the key with which a KSeF token is encrypted for a login. Several may be valid
// at once while KSeF replaces one: the one whose validity has begun last is the one that stays
// (KSeF's page on public keys). Clients made from one another share what they have fetched, for a
// day.
func (c *Client) TokenKey(ctx context.Context) (*PublicKey, error) {
	return c.tokenKeys.other(ctx, c, nil)
}

// tokenKeys keeps the keys that KSeF publishes for encrypting tokens. It is safe for concurrent
// use.
type tokenKeys struct {
	fetching *semaphore.Weighted
	fetched  atomic.Pointer[fetchedKeys] // nil before the first fetch
}

func newTokenKeys() *tokenKeys { return &tokenKeys{fetching: semaphore.NewWeighted(1)} }

// other returns the key to encrypt with now, which is not the refused one; nil refuses none. It
// fetches the keys where there is none, one caller at a time: the others use what it has fetched.
func (k *tokenKeys) other(ctx context.Context, c *Client, refused *PublicKey) (*PublicKey, error) {
	if key := k.fetched.Load().inForce(); key != nil && key != refused {
		return key, nil
	}
	if err := k.fetching.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for KSeF's public keys: %w", err)
	}
	defer k.fetching.Release(1)
	if key := k.fetched.Load().inForce(); key != nil && key != refused {
		return key, nil
	}
	fetched, err := c.fetchTokenKeys(ctx)
	if err != nil {
		return nil, err
	}
	k.fetched.Store(fetched)
	if key := fetched.inForce(); key != nil {
		return key, nil
	}
	return nil, errNoTokenKey
}

// fetchedKeys is what one fetch has found.
type fetchedKeys struct {
	keys []*PublicKey // the latest beginning of validity first
	at   time.Time
}

// inForce returns the key to encrypt with now, nil for none. It returns nil for a nil f.
func (f *fetchedKeys) inForce() *PublicKey {
	if f == nil || time.Since(f.at) >= tokenKeysLast {
		return nil
	}
	now := time.Now()
	valid := slices.IndexFunc(f.keys, func(k *PublicKey) bool { return !now.Before(k.from) && !now.After(k.until) })
	if valid < 0 {
		return nil
	}
	return f.keys[valid]
}

func (c *Client) fetchTokenKeys(ctx context.Context) (*fetchedKeys, error) {
	var published publicKeys
	if err := c.do(ctx, call{endpoint: EndpointPublicKeys, success: http.StatusOK}, &published); err != nil {
		return nil, err
	}
	fetched := &fetchedKeys{at: time.Now()}
	for _, one := range published {
		if key := one.tokenKey(); key != nil {
			fetched.keys = append(fetched.keys, key)
		}
	}
	slices.SortStableFunc(fetched.keys, func(a, b *PublicKey) int { return b.from.Compare(a.from) })
	return fetched, nil
}

// publicKeyCertificate is PublicKeyCertificate.
type publicKeyCertificate struct {
	Certificate string    `json:"certificate"`
	PublicKeyID string    `json:"publicKeyId"`
	ValidFrom   time.Time `json:"validFrom"`
	ValidTo     time.Time `json:"validTo"`
	Usage       []string  `json:"usage"`
}

// publicKeys is the answer of GET /security/public-key-certificates.
type publicKeys []publicKeyCertificate

func (p *publicKeys) translate(c clock) {
	for i := range *p {
		(*p)[i].ValidFrom, (*p)[i].ValidTo = c.local((*p)[i].ValidFrom), c.local((*p)[i].ValidTo)
	}
}

// tokenKey returns nil for a key that is not for tokens or not of RSA.
func (p *publicKeyCertificate) tokenKey() *PublicKey {
	if !slices.Contains(p.Usage, publicKeyUsageTokens) {
		return nil
	}
	key := rsaKey(p.Certificate)
	if key == nil {
		return nil
	}
	return &PublicKey{ID: p.PublicKeyID, key: key, from: p.ValidFrom, until: p.ValidTo}
}

func rsaKey(certificate string) *rsa.PublicKey {
	der, err := base64.StdEncoding.DecodeString(certificate)
	if err != nil {
		return nil
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	key, _ := parsed.PublicKey.(*rsa.PublicKey)
	return key
}
