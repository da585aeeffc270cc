// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package limits

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"time"
)

// Limits are the configurable rate limits. Those of invoice sessions are KSeF's.
type Limits struct {
	// Context bounds each endpoint per login context and source address. KSeF has 10/s, 30/min and
	// 120/h (group "other"). A window without a limit here has none for invoice sessions either.
	Context Windows
	// Client bounds each endpoint that needs no context per source address. KSeF has 60/s (group
	// "anonymous").
	Client Windows
	// Global bounds all requests of a source address, over all endpoints and contexts. KSeF has no
	// such limit so far (group "global").
	Global Windows
}

func (l Limits) withDefaults() Limits {
	production := Production()
	return Limits{
		Context: l.Context.or(production.Of(GroupOther)),
		Client:  l.Client.or(production.Of(GroupAnonymous)),
		Global:  l.Global.or(production.Of(GroupGlobal)),
	}
}

// groups are production's limits with those of the options in place. A window without a limit for
// contexts has none in any group.
func (l Limits) groups() Groups {
	all := Production()
	for i := range all {
		all[i].Windows = all[i].withoutLimitsOf(l.Context)
	}
	all.set(GroupOther, l.Context)
	all.set(GroupAnonymous, l.Client)
	all.set(GroupGlobal, l.Global)
	return all
}

// Windows are the most requests in any second, minute and hour. Zero is KSeF's value. A negative
// number removes the limit.
type Windows struct {
	PerSecond, PerMinute, PerHour int
}

// or replaces zeros by the standard's values, and negative numbers by -1.
func (w Windows) or(standard Windows) Windows {
	return Windows{
		max(cmp.Or(w.PerSecond, standard.PerSecond), -1),
		max(cmp.Or(w.PerMinute, standard.PerMinute), -1),
		max(cmp.Or(w.PerHour, standard.PerHour), -1),
	}
}

func (w Windows) unlimited() bool {
	return w.PerSecond <= 0 && w.PerMinute <= 0 && w.PerHour <= 0
}

func (w Windows) list() []window {
	return []window{{time.Second, w.PerSecond, "sekundę"}, {time.Minute, w.PerMinute, "minutę"},
		{time.Hour, w.PerHour, "godzinę"}}
}

// withoutLimitsOf removes the limits of the windows that have none in others.
func (w Windows) withoutLimitsOf(others Windows) Windows {
	lifted := func(own, other int) int {
		if other < 0 {
			return other
		}
		return own
	}
	return Windows{
		lifted(w.PerSecond, others.PerSecond), lifted(w.PerMinute, others.PerMinute), lifted(w.PerHour, others.PerHour),
	}
}

// The groups of endpoints with common values of rate limits. Each endpoint still has its own
// counter (limity-api.md). anonymous is for endpoints that need no login, global for all requests
// of a source address.
const (
	GroupOnlineSession      = "onlineSession"
	GroupOnlineSessionClose = "onlineSessionClose"
	GroupBatchSession       = "batchSession"
	GroupBatchSessionClose  = "batchSessionClose"
	GroupInvoiceSend        = "invoiceSend"
	GroupSessionList        = "sessionList"
	GroupSessionMisc        = "sessionMisc"
	GroupInvoiceMetadata    = "invoiceMetadata"
	GroupOther              = "other"
	GroupAnonymous          = "anonymous"
	GroupGlobal             = "global"
)

// GroupWindows are the limits of one group.
type GroupWindows struct {
	Group string
	Windows
	Optional bool // optional in POST /testdata/rate-limits
}

// Groups are the limits of all groups. Its JSON form is EffectiveApiRateLimits.
type Groups []GroupWindows

// Of returns the limits of a group.
func (g Groups) Of(group string) Windows {
	return g[g.position(group)].Windows
}

func (g Groups) set(group string, windows Windows) {
	g[g.position(group)].Windows = windows
}

func (g Groups) position(group string) int {
	return slices.IndexFunc(g, func(one GroupWindows) bool { return one.Group == group })
}

// MarshalJSON writes the groups in their order.
func (g Groups) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	for i, one := range g {
		values, err := json.Marshal(Values(one.Windows))
		if err != nil {
			return nil, err
		}
		out.WriteByte("{,"[min(i, 1)])
		out.WriteString(strconv.Quote(one.Group) + ":")
		out.Write(values)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// Production are the limits of KSeF's production, in the order of OpenAPI 2.7.0. The groups that
// came with 2.8 (*Close, anonymous, global) are not in it. Their values are those that public
// clients have read.
func Production() Groups {
	return Groups{
		{Group: GroupOnlineSession, Windows: Windows{10, 30, 120}},
		{Group: GroupOnlineSessionClose, Windows: Windows{20, 60, 240}, Optional: true},
		{Group: GroupBatchSession, Windows: Windows{10, 20, 60}},
		{Group: GroupBatchSessionClose, Windows: Windows{20, 40, 120}, Optional: true},
		{Group: GroupInvoiceSend, Windows: Windows{10, 30, 180}},
		{Group: "invoiceStatus", Windows: Windows{30, 120, 1200}},
		{Group: GroupSessionList, Windows: Windows{5, 10, 60}},
		{Group: "sessionInvoiceList", Windows: Windows{10, 20, 200}},
		{Group: GroupSessionMisc, Windows: Windows{10, 120, 1200}},
		{Group: GroupInvoiceMetadata, Windows: Windows{8, 16, 20}},
		{Group: "invoiceExport", Windows: Windows{8, 16, 20}},
		{Group: "invoiceExportStatus", Windows: Windows{10, 60, 600}, Optional: true},
		{Group: "invoiceDownload", Windows: Windows{8, 16, 64}},
		{Group: "collectiveIdentifier", Windows: Windows{10, 60, 120}, Optional: true},
		{Group: GroupOther, Windows: Windows{10, 30, 120}},
		{Group: GroupAnonymous, Windows: Windows{60, -1, -1}, Optional: true},
		{Group: GroupGlobal, Windows: Windows{-1, -1, -1}, Optional: true},
	}
}

// Values is EffectiveApiRateLimitValues and ApiRateLimitValuesOverride. -1 is no limit.
type Values struct {
	PerSecond int `json:"perSecond"`
	PerMinute int `json:"perMinute"`
	PerHour   int `json:"perHour"`
}
