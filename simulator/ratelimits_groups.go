// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
)

// The groups of endpoints that share values of rate limits. Each endpoint still has a counter of
// its own (limity-api.md). anonymous and global are no groups of endpoints of a context: the first
// is for those that need no login, the second for all requests of a source address.
const (
	groupOnlineSession      = "onlineSession"
	groupOnlineSessionClose = "onlineSessionClose"
	groupBatchSession       = "batchSession"
	groupBatchSessionClose  = "batchSessionClose"
	groupInvoiceSend        = "invoiceSend"
	groupSessionList        = "sessionList"
	groupSessionMisc        = "sessionMisc"
	groupOther              = "other"
	groupAnonymous          = "anonymous"
	groupGlobal             = "global"
)

// groupWindows are the limits of one group.
type groupWindows struct {
	group string
	Windows
	optional bool // may be left out of POST /testdata/rate-limits
}

// groupLimits are the limits of all groups. Its JSON form is EffectiveApiRateLimits.
type groupLimits []groupWindows

// productionLimits are those of KSeF's production, in the order of OpenAPI 2.7.0. The groups that
// came with 2.8 (*Close, anonymous, global) are not in it: their values are those that public
// clients were seen to read.
func productionLimits() groupLimits {
	return groupLimits{
		{group: groupOnlineSession, Windows: Windows{10, 30, 120}},
		{group: groupOnlineSessionClose, Windows: Windows{20, 60, 240}, optional: true},
		{group: groupBatchSession, Windows: Windows{10, 20, 60}},
		{group: groupBatchSessionClose, Windows: Windows{20, 40, 120}, optional: true},
		{group: groupInvoiceSend, Windows: Windows{10, 30, 180}},
		{group: "invoiceStatus", Windows: Windows{30, 120, 1200}},
		{group: groupSessionList, Windows: Windows{5, 10, 60}},
		{group: "sessionInvoiceList", Windows: Windows{10, 20, 200}},
		{group: groupSessionMisc, Windows: Windows{10, 120, 1200}},
		{group: "invoiceMetadata", Windows: Windows{8, 16, 20}},
		{group: "invoiceExport", Windows: Windows{8, 16, 20}},
		{group: "invoiceExportStatus", Windows: Windows{10, 60, 600}, optional: true},
		{group: "invoiceDownload", Windows: Windows{8, 16, 64}},
		{group: "collectiveIdentifier", Windows: Windows{10, 60, 120}, optional: true},
		{group: groupOther, Windows: Windows{10, 30, 120}},
		{group: groupAnonymous, Windows: Windows{60, -1, -1}, optional: true},
		{group: groupGlobal, Windows: Windows{-1, -1, -1}, optional: true},
	}
}

// groups are production's limits with those of the options in their places. A window that the
// options lift for contexts is lifted in every group.
func (l Limits) groups() groupLimits {
	all := productionLimits()
	for i := range all {
		all[i].Windows = all[i].withoutLimitsOf(l.Context)
	}
	all.set(groupOther, l.Context)
	all.set(groupAnonymous, l.Client)
	all.set(groupGlobal, l.Global)
	return all
}

// of returns the limits of a group.
func (g groupLimits) of(group string) Windows {
	return g[g.position(group)].Windows
}

func (g groupLimits) set(group string, windows Windows) {
	g[g.position(group)].Windows = windows
}

func (g groupLimits) position(group string) int {
	return slices.IndexFunc(g, func(one groupWindows) bool { return one.group == group })
}

// MarshalJSON writes the groups in their order.
func (g groupLimits) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	for i, one := range g {
		values, err := json.Marshal(rateLimitValues(one.Windows))
		if err != nil {
			return nil, err
		}
		out.WriteByte("{,"[min(i, 1)])
		out.WriteString(strconv.Quote(one.group) + ":")
		out.Write(values)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// lift returns the windows without those that the others lift.
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
