// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// setLimits puts KSeF's own numbers in place of those that were known: the group "other" in the
// context, "anonymous" and "global" for the source address, whichever context they were told in. An
// answer without "other" leaves the context as it is; without the other two, KSeF is older than
// 2.8, and what is documented holds.
func (b *limiters) setLimits(ctx context.Context, key ratelimit.Key, told client.RateLimitGroups) error {
	if told.Other != nil {
		other := limitsOf(told.Other, ratelimit.StandardLimits())
		if err := b.setLimitsOf(ctx, key, contextEndpoints(), other); err != nil {
			return err
		}
	}
	address := ratelimit.Key{API: key.API}
	if err := b.setLimitsOf(ctx, address, loginEndpoints(), limitsOf(told.Anonymous, ratelimit.AuthLimits())); err != nil {
		return err
	}
	return b.setLimitsOf(ctx, address, []string{ratelimit.AllRequests}, limitsOf(told.Global, ratelimit.Limits{}))
}

func (b *limiters) setLimitsOf(ctx context.Context, key ratelimit.Key, endpoints []string, limits ratelimit.Limits) error {
	limiter, err := b.limiter(ctx, key)
	if err != nil {
		return err
	}
	for _, endpoint := range endpoints {
		limiter.SetLimits(endpoint, limits)
	}
	return nil
}

// limitsOf takes each window by itself: a negative number is no limit, and where KSeF told none
// (0), the documented one holds.
func limitsOf(told *client.RateLimits, documented ratelimit.Limits) ratelimit.Limits {
	if told == nil {
		return documented
	}
	return ratelimit.Limits{
		PerSecond: windowOf(told.PerSecond, documented.PerSecond),
		PerMinute: windowOf(told.PerMinute, documented.PerMinute),
		PerHour:   windowOf(told.PerHour, documented.PerHour),
	}
}

func windowOf(told, documented int) int {
	if told == 0 {
		return documented
	}
	return told
}

// contextEndpoints are those that KSeF counts by context, in the group "other".
func contextEndpoints() []string {
	return []string{
		client.EndpointGenerateToken, client.EndpointQueryTokens, client.EndpointToken, client.EndpointRevokeToken,
		client.EndpointQuerySessions, client.EndpointEndSession, client.EndpointEndNumbered, client.EndpointRateLimits,
		client.EndpointCertificateLimits, client.EndpointEnrollmentData, client.EndpointEnroll, client.EndpointEnrollment,
		client.EndpointRetrieve, client.EndpointQueryCertificates, client.EndpointRevokeCertificate,
		client.EndpointPersonalGrants,
	}
}

// loginEndpoints are those that KSeF counts by address.
func loginEndpoints() []string {
	return []string{
		client.EndpointChallenge, client.EndpointXAdES, client.EndpointKSeFToken, client.EndpointLoginStatus,
		client.EndpointRedeem, client.EndpointRefresh, client.EndpointPublicKeys,
	}
}
