// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"fmt"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/simulator"
)

// contextFlows change nip of config while a token is being issued in the old context.
func contextFlows() []flow {
	change := func(force string) func(c *Cluster) {
		return func(c *Cluster) {
			var reader sync.WaitGroup
			reader.Go(c.tryIssue)
			c.Elapse(500 * time.Millisecond)
			c.writeUntilAccepted("config", map[string]any{"nip": SecondNIP, "force": force})
			reader.Wait()
			c.tryIssue()
		}
	}
	options := simulator.Options{ActivationDelay: 2 * time.Second, Grants: SecondGrant()}
	return []flow{{
		name: "change nip while a token is issued", options: options,
		run: change(""), kinds: issuing(), check: keepsItsContext,
	}, {
		name: "force a change of nip while a token is issued", options: options,
		run: change("tokens"), kinds: issuing(loggingIn("put budget/*", "put config", GrantsEndpoint)...),
	}}
}

// keepsItsContext fails if config no longer leads to the open tokens.
func keepsItsContext(c *Cluster) (err error) {
	c.OnMount(0, func(m *Mount) {
		if nip := m.Must(m.Read("config", nil)).Data["nip"]; nip != NIP {
			err = fmt.Errorf("config has moved to %v, and the tokens of %s are stranded", nip, NIP)
		}
	})
	return err
}
