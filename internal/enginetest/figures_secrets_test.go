// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const (
	submitLogin  = client.EndpointXAdES
	submitToken  = "POST /auth/ksef-token"
	refreshLogin = client.EndpointRefresh
)

func TestFigureReadsOfSecretsCostKSeFNothing(t *testing.T) {
	const reads = 10_000
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.AccessRole("reports", nil)
		m.Must(m.Write("static-roles/erp", map[string]any{"permissions": "InvoiceRead"}))
		for name, path := range map[string]string{"access": "creds/reports", "static": "static-creds/erp"} {
			m.Must(m.Read(path, nil))
			before := m.AllRequests()
			for range reads {
				_, err := m.Backend.HandleRequest(m.Ctx, &logical.Request{Operation: logical.ReadOperation, Path: path, Storage: m.Storage, MountPoint: "ksef/"})
				require.NoError(t, err)
			}
			attribute(t, name, m.AllRequests()-before)
			require.Equal(t, before, m.AllRequests())
		}
	})
}

func TestFigureAFailoverOf300TaxpayersTakesNoLogin(t *testing.T) {
	const taxpayers = 300
	InEnv(t, simulator.Options{Limits: NoLimits()}, func(t *testing.T, env *Env) {
		o := newOffice(env, &logical.InmemStorage{}, taxpayers)
		o.readAll(taxpayers)
		o.Elapse(2 * time.Minute)
		o.Stop()
		logins, refreshes := o.logins(), o.Requests(refreshLogin)
		o.UseOwnProcess(o.Transport)
		o.Start()
		defer o.Stop()
		var mu sync.Mutex
		used := map[any]int{}
		AtOnce(taxpayers, func(n int) {
			access := o.read(n)
			mu.Lock()
			defer mu.Unlock()
			used[access]++
		})
		require.Len(t, used, taxpayers)
		o.Elapse(3 * time.Minute)
		attribute(t, "logins", o.logins()-logins)
		attribute(t, "refreshes", o.Requests(refreshLogin)-refreshes)
		require.Equal(t, logins, o.logins())
		require.LessOrEqual(t, o.Requests(refreshLogin)-refreshes, taxpayers)
	})
}

func TestFigureTwoWeeksOfAnAccessToken(t *testing.T) {
	const length = 14 * Day
	WithMount(t, simulator.Options{Limits: NoLimits(), LoginDelay: 3 * time.Second}, func(t *testing.T, m *Mount) {
		m.AccessRole("reports", nil)
		began, least := time.Now(), time.Hour
		for time.Since(began) < length {
			data := m.AccessToken("creds/reports").Data
			ends, err := time.Parse(time.RFC3339, data["expires_at"].(string))
			require.NoError(t, err)
			least = min(least, time.Until(ends))
			require.Equal(t, 200, m.QueryInvoices(data["access_token"]))
			m.Elapse(5 * time.Minute)
		}
		attribute(t, "logins", m.Requests(submitToken))
		attribute(t, "least-seconds", least.Seconds())
		require.LessOrEqual(t, m.Requests(submitToken), 3, "the first, and one for each 7 days")
		require.GreaterOrEqual(t, least, time.Minute)
	})
}

func TestFigureAThousandTaxpayersAreCheapToKeep(t *testing.T) {
	const few, many = 100 / raceDivisor, 1000 / raceDivisor
	InEnv(t, simulator.Options{Limits: NoLimits()}, func(t *testing.T, env *Env) {
		storage := &readCounter{Storage: &logical.InmemStorage{}}
		o := newOffice(env, storage, many)
		o.readAll(few)
		ofFew := o.restartReads(storage)
		o.readAll(many)
		ofMany := o.restartReads(storage)
		attribute(t, "reads-of-100", ofFew)
		attribute(t, "reads-of-1000", ofMany)
		require.LessOrEqual(t, ofMany, ofFew*many/few)

		o.readAll(many)
		o.Elapse(10 * time.Minute)
		with := heapInUse()
		o.Stop()
		o.Backend, o.factory = nil, nil
		used := float64(with-heapInUse()) / (1 << 20)
		attribute(t, "MiB", used)
		require.LessOrEqual(t, used, 32.0)
		require.Equal(t, many, o.Requests(submitToken), "one login each, across two restarts")
	})
}

// office is a mount with a role for many taxpayers, in its own process.
type office struct {
	*Mount
	nips []string
}

func newOffice(env *Env, storage logical.Storage, taxpayers int) *office {
	o := &office{Mount: env.NewMount(storage)}
	o.UseOwnProcess(env.Transport)
	o.Start()
	for n := range taxpayers {
		o.nips = append(o.nips, nipOf(n))
	}
	cert, key := env.NewCertificate(simulator.CertificateOptions{PESEL: PESEL})
	o.Must(o.Write("config", map[string]any{
		"url": URL, "nip": NIP, "certificate": cert, "private_key": key, "allowed_contexts": o.nips, "activation_timeout": "1m",
	}))
	o.AccessRole("office", map[string]any{"allowed_contexts": o.nips})
	return o
}

func (o *office) read(n int) any {
	return o.AccessToken("creds/office/" + o.nips[n]).Data["access_token"]
}

// readAll reads for the first taxpayers, as fast as KSeF's limits allow.
func (o *office) readAll(count int) {
	for n := range count {
		o.read(n)
	}
}

func (o *office) logins() int { return o.Requests(submitLogin) + o.Requests(submitToken) }

// restartReads stops the mount and returns how often the next process reads storage from its start
// until it has refreshed what it keeps fresh.
func (o *office) restartReads(storage *readCounter) int {
	o.Stop()
	o.UseOwnProcess(o.Transport)
	storage.reset()
	o.Start()
	o.Elapse(3 * time.Minute)
	return storage.reset()
}

// nipOf returns the n-th of many NIPs with a right checksum.
func nipOf(n int) string {
	for number := 111000000 + n*10; ; number++ {
		digits := []byte(fmt.Sprint(number))
		sum := 0
		for i, weight := range []int{6, 5, 7, 2, 3, 4, 5, 6, 7} {
			sum += weight * int(digits[i]-'0')
		}
		if check := sum % 11; check < 10 {
			return fmt.Sprintf("%s%d", digits, check)
		}
	}
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
