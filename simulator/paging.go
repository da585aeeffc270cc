// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
)

// Page sizes that lists accept.
const (
	minPageSize     = 10
	maxPageSize     = 100
	defaultPageSize = 10

	maxCertificatePageSize = 50
)

// page is the requested part of a list.
type page struct {
	kind   string
	before int // items at lower positions only, newest first
	size   int
}

// newPage reads the page size and the continuation token of a request for a list with so many
// items.
func (req *request) newPage(kind string, items int) (page, *apiError) {
	return req.newPageUpTo(maxPageSize, kind, items)
}

// newPageUpTo is newPage with another maximum page size.
func (req *request) newPageUpTo(largest int, kind string, items int) (page, *apiError) {
	size, refused := pageSize(req.URL.Query(), largest)
	if refused != nil {
		return page{}, refused
	}
	wanted := page{kind, items, size}
	token := req.Header.Get("x-continuation-token")
	if token == "" {
		return wanted, nil
	}
	plain, err := base64.StdEncoding.DecodeString(token)
	position, found := strings.CutPrefix(string(plain), kind+":")
	before, numberErr := strconv.Atoi(position)
	if err != nil || !found || numberErr != nil || before < 0 || before > items {
		return page{}, &apiError{Code: 21418, Description: "Przekazany token kontynuacji ma nieprawidłowy format."}
	}
	wanted.before = before
	return wanted, nil
}

func pageSize(query url.Values, largest int) (int, *apiError) {
	if !query.Has("pageSize") {
		return defaultPageSize, nil
	}
	size, err := strconv.Atoi(query.Get("pageSize"))
	if err != nil || size < minPageSize || size > largest {
		return 0, badInput("Parametr pageSize musi mieć wartość od %d do %d.", minPageSize, largest)
	}
	return size, nil
}

// numberedPage reads the page size and the page number, from 0, of a request for a list with
// numbered pages.
func numberedPage(query url.Values, largest int) (size, number int, refused *apiError) {
	if size, refused = pageSize(query, largest); refused != nil || !query.Has("pageOffset") {
		return size, 0, refused
	}
	offset, err := strconv.ParseInt(query.Get("pageOffset"), 10, 32)
	if err != nil || offset < 0 {
		return 0, 0, badInput("Parametr pageOffset musi być liczbą nieujemną.")
	}
	return size, int(offset), nil
}

// pick returns the positions of the matching items on a page, newest first, and the token of the
// next page, or "".
func (p page) pick(matches func(position int) bool) (positions []int, next string) {
	for position := p.before - 1; position >= 0; position-- {
		if !matches(position) {
			continue
		}
		if len(positions) == p.size {
			return positions, base64.StdEncoding.EncodeToString([]byte(p.kind + ":" + strconv.Itoa(position+1)))
		}
		positions = append(positions, position)
	}
	return positions, ""
}
