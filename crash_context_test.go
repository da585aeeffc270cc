// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"fmt"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/simulator"
)

// secondNIP is another taxpayer, for whom the company of testNIP may act where the simulator has
// the grant of it.
const secondNIP = "1111111111"

func secondGrant() []simulator.Grant {
	return []simulator.Grant{{
		Identifier: simulator.Identifier{Type: simulator.TypeNIP, Value: testNIP},
		Context:    simulator.Identifier{Type: simulator.TypeNIP, Value: secondNIP},
	}}
}

// contextFlows are those in which nip of config changes while a token is being issued in the
// context before.
func contextFlows() []flow {
	change := func(force string) func(s *cluster) {
		return func(s *cluster) {
			var reader sync.WaitGroup
			reader.Go(s.tryIssue)
			s.elapse(500 * time.Millisecond)
			s.insist("config", map[string]any{"nip": secondNIP, "force": force})
			reader.Wait()
			s.tryIssue()
		}
	}
	options := simulator.Options{ActivationDelay: 2 * time.Second, Grants: secondGrant()}
	return []flow{{
		name: "change nip while a token is issued", options: options,
		run: change(""), kinds: issuing(), check: keepsItsContext,
	}, {
		name: "force a change of nip while a token is issued", options: options,
		run: change("tokens"), kinds: issuing(loggingIn("put budget/*", "put config", grantsEndpoint)...),
	}}
}

// keepsItsContext says that config still leads to the tokens that there are.
func keepsItsContext(s *cluster) (err error) {
	s.onMount(0, func(m *mount) {
		if nip := m.must(m.read("config", nil)).Data["nip"]; nip != testNIP {
			err = fmt.Errorf("config has moved to %v, and the tokens of %s are stranded", nip, testNIP)
		}
	})
	return err
}
