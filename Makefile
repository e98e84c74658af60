# Everything here works on a fresh Debian machine with Go; `make help` lists it.

BUF     := go tool -modfile=tools.mod buf
CHECK   := go tool -modfile=tools.mod staticcheck
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# Packages under test: make test PKG=./agent/...
PKG     ?= ./...
# Flags of the bench: make bench BENCH='-scale 0.1 -only narrow,wide'
BENCH   ?=

# Pairs of versions: make versions VERSIONS='14-18'
VERSIONS ?=

.DEFAULT_GOAL := help
.PHONY: help build generate lint lint-format lint-vet lint-static lint-proto lint-generated test demo bench versions clean ci setup

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/drover
	go build -trimpath -o bin/drover ./ctl/drover

generate: ## Go code from proto/, the list of fault points
	$(BUF) generate
	go generate ./...

lint: ## format, vet, staticcheck, buf, and generated code equal to its source; reports all of them
	@$(MAKE) --no-print-directory -k lint-format lint-vet lint-static lint-proto lint-generated

lint-format:
	@bad=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go' | grep -v '\.pb\.go$$' | while read -r f; do [ ! -e "$$f" ] || echo "$$f"; done)); \
		if [ -n "$$bad" ]; then echo "not formatted:"; echo "$$bad"; exit 1; fi

lint-vet:
	go vet ./...

lint-static:
	$(CHECK) ./...

lint-proto:
	$(BUF) lint

lint-generated:
	.ci/generated

setup: ## install the database server that tests and demo run
	deploy/dev/setup

test: setup ## all tests with the race detector, against real databases
	.ci/test $(PKG)

versions: ## tests against PostgreSQL 13 to 18, fetched by npm; VERSIONS='14-18 18-18' for some
	deploy/dev/versions $(VERSIONS)

demo: setup build ## move a live database, locally, and show that nothing was lost
	go run ./deploy/dev/demo bin/drover

bench: setup build ## speed and memory beside other tools; BENCH='-scale 0.1 -only narrow'
	e2e/bench/setup
	go run ./e2e/bench $(BENCH)

ci: ## what CI runs
	.ci/run

clean: ## remove what the build made
	rm -rf bin dist
