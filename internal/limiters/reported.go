// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package limiters

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// SetLimits replaces the known limits by those that KSeF has reported for a taxpayer: the group
// "other" for the taxpayer, "anonymous" and "global" for the source address, whatever the taxpayer.
// Without "other" the taxpayer's limits stay as they are; without the other two KSeF is older than
// 2.8, and the documented limits hold. Limits that have changed are stored; where that fails, this
// process keeps them nevertheless.
func (s *Set) SetLimits(ctx context.Context, api string, taxpayer client.ContextIdentifier, reported client.RateLimitGroups) error {
	address := ratelimit.Key{API: api}
	failures := []error{
		s.setLimitsOf(ctx, address, loginEndpoints(), limitsOf(reported.Anonymous, ratelimit.AuthLimits())),
		s.setLimitsOf(ctx, address, []string{ratelimit.AllRequests}, limitsOf(reported.Global, ratelimit.Limits{})),
	}
	if reported.Other != nil {
		other := limitsOf(reported.Other, ratelimit.StandardLimits())
		failures = append(failures, s.setLimitsOf(ctx, keyOf(api, taxpayer), contextEndpoints(), other))
	}
	return errors.Join(failures...)
}

func (s *Set) setLimitsOf(ctx context.Context, key ratelimit.Key, endpoints []string, limits ratelimit.Limits) error {
	limiter, err := s.limiter(ctx, key)
	if err != nil {
		return err
	}
	anyChanged := false
	for _, endpoint := range endpoints {
		anyChanged = limiter.SetLimits(endpoint, limits) || anyChanged
	}
	if !anyChanged {
		return nil
	}
	if err := limiter.Save(ctx); err != nil {
		return fmt.Errorf("storing the limits that KSeF has reported: %w", err)
	}
	return nil
}

// limitsOf takes each window by itself: a negative number is no limit, and where KSeF has reported
// none (0), the documented one holds.
func limitsOf(reported *client.RateLimits, documented ratelimit.Limits) ratelimit.Limits {
	if reported == nil {
		return documented
	}
	return ratelimit.Limits{
		PerSecond: cmp.Or(reported.PerSecond, documented.PerSecond),
		PerMinute: cmp.Or(reported.PerMinute, documented.PerMinute),
		PerHour:   cmp.Or(reported.PerHour, documented.PerHour),
	}
}

// contextEndpoints are those that KSeF counts by taxpayer, in the group "other".
func contextEndpoints() []string {
	return []string{
		client.EndpointGenerateToken, client.EndpointQueryTokens, client.EndpointToken, client.EndpointRevokeToken,
		client.EndpointQuerySessions, client.EndpointEndSession, client.EndpointEndNumbered, client.EndpointRateLimits,
		client.EndpointCertificateLimits, client.EndpointEnrollmentData, client.EndpointEnroll, client.EndpointEnrollment,
		client.EndpointRetrieve, client.EndpointQueryCertificates, client.EndpointRevokeCertificate,
		client.EndpointPersonalGrants,
	}
}

// loginEndpoints are those that KSeF counts by source address.
func loginEndpoints() []string {
	return []string{
		client.EndpointChallenge, client.EndpointXAdES, client.EndpointKSeFToken, client.EndpointLoginStatus,
		client.EndpointRedeem, client.EndpointRefresh, client.EndpointPublicKeys,
	}
}
