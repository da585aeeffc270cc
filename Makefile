# What a person or a machine does with this repository. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c

BIN := $(CURDIR)/bin
VERSION := $(shell scripts/version)
GO_BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)"

# KSeF's TEST environment, the only public one where anybody may log in with a certificate of their own.
KSEF_URL ?= https://api-test.ksef.mf.gov.pl/v2
FUZZTIME ?= 30s
IMAGE ?= vault-plugin-secrets-ksef/vault:local

.PHONY: help build demo dev test test-more testacc lint fuzz bench compose-image compose-check clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the plugin and the simulator into ./bin
	$(GO_BUILD) -o $(BIN)/ ./cmd/...

demo: build ## Show the whole life of a token with a real Vault or OpenBao, step by step, and end
	@scripts/demo

dev: build ## Start Vault or OpenBao with the engine configured and the simulator beside it, until Ctrl-C
	@scripts/dev

# Under the race detector all timers of a testing/synctest bubble share one context of the detector, and two processors
# that use it at once destroy it (compare golang.org/issue/78156): SIGSEGV after some minutes. So these tests have one processor.
RACE := go test -race -cpu 1 -timeout 30m

# What plays for many minutes has a process of its own, and these run at the same time.
LONG := TestCrash|TestModel

# Its tests wait for clocks more than they compute, so that four at a time suit two cores.
E2E := go test -race -parallel 4 -timeout 20m -tags e2e ./e2e

# One after the other: what a real Vault does is judged by the clock.
test: build ## Run every test with the race detector, those against a real Vault included
	$(RACE) -skip '^($(LONG))$$' ./...
	tr '|' '\n' <<<'$(LONG)' | xargs -P 2 -I {} $(RACE) -run '^{}$$' ./internal/enginetest
	vault=$$(scripts/vault-binary) && KSEF_URL= VAULT_BIN=$$vault $(E2E)

# The last commit before there were tokens without a lease.
FORMER := 914b75a

# One after the other, for the same reason. The outage is waited for with Vault's Agent alone: it
# takes six minutes.
test-more: build ## Run what make test has no time for: the tests against a real Vault, on OpenBao, and a former plugin
	status=0; scripts/former-plugin $(FORMER) || status=$$?; case $$status in \
	0) $(RACE) -tags former -run '^TestFormerPlugin$$' ./internal/enginetest ;; \
	77) ;; \
	*) exit $$status ;; esac
	openbao=$$(scripts/openbao-binary) && KSEF_URL= VAULT_BIN=$$openbao $(E2E) -skip '^TestAccessTokensInAnOutage$$'

testacc: build ## Run the acceptance test against KSeF's TEST environment (KSEF_URL=... for another)
	vault=$$(scripts/vault-binary) && KSEF_URL=$(KSEF_URL) VAULT_BIN=$$vault \
	  go test -tags e2e -count 1 -v -run TestAcceptance ./e2e/...

lint: ## Check style, mistakes and the architecture
	go tool -modfile=tools/lint/go.mod golangci-lint run --allow-parallel-runners ./...
	scripts/sleepless
	scripts/width

fuzz: ## Run each fuzz target for FUZZTIME (30s unless told)
	@grep -rEo --include='*_test.go' --exclude-dir=.cache '^func Fuzz[A-Za-z0-9_]+' . | sort | \
	while IFS=: read -r file name; do \
	  echo "== $${name#func } in $$(dirname "$$file")"; \
	  go test -run '^$$' -fuzz "^$${name#func }\$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")" </dev/null; \
	done

# What holds exchanges against the contract stays away, since it would be measured too.
bench: build ## Measure the figures of docs/benchmarks.md and print them as a table
	@vault=$$(scripts/vault-binary) && export KSEF_CONTRACTS= KSEF_URL= VAULT_BIN=$$vault && { \
	  go test -v -count 1 -p 1 -run '^TestFigure' -bench . ./internal/enginetest ./client/xades; \
	  go test -tags e2e -count 1 -run '^$$' -bench . ./e2e; } | go run ./tools/benchtable

compose-image: ## Make a Vault image for docker-compose.yml where none can be pulled
	scripts/compose-image $(IMAGE)

compose-check: build ## Prove that docker-compose.yml gives a working engine
	scripts/compose-check

clean: ## Remove what was built, the cached Vault and OpenBao included
	rm -rf bin .cache
