# What a person types. Each target is a line or two; the work is done by cmake, ctest and tests/tools/.
# Variables: PRESET (see CMakePresets.json), WERROR=ON, ARGS (demo, bench, soak), JOBS.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PRESET ?= gcc
WERROR ?= OFF
JOBS ?= $(shell nproc)
ARGS ?=
DIR := build/$(PRESET)
# pgbouncer lies in /usr/sbin, which is not on every user's path.
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: help install-deps build demo test check format tidy lint bench matrix fuzz soak docker-test clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

install-deps: ## install what building and testing need (Debian, Ubuntu; root or sudo)
	@tests/tools/install-deps.sh build

build: install-deps ## configure and build everything
	@cmake --preset $(PRESET) -DPGCUTOVER_WERROR=$(WERROR)
	@cmake --build $(DIR) -j $(JOBS)

demo: install-deps ## move a live database, switch it, come back, prove it (ARGS="--scale 10 --rate 200")
	@cmake --preset $(PRESET) -DPGCUTOVER_WERROR=$(WERROR) && cmake --build $(DIR) -j $(JOBS) --target pgcutover pgcutover_demo
	@tests/tools/demo.sh $(DIR) $(ARGS)

test: build ## unit and integration tests on real servers
	@ctest --test-dir $(DIR) --output-on-failure -j $(JOBS) -LE 'bench|soak|matrix|docker'

check: format lint tidy ## format, lint and clang-tidy

format: ## is every file formatted? (FIX=1 formats them)
	@tests/tools/install-deps.sh check && tests/tools/format.sh

lint: ## the house's rules, and shellcheck
	@tests/tools/install-deps.sh check && tests/tools/lint.sh

tidy: install-deps ## clang-tidy (FILES="a.cc b.cc" for some)
	@tests/tools/install-deps.sh check && cmake --preset $(PRESET) && tests/tools/tidy.sh $(DIR) $(FILES)

bench: ## measure (release build)
	@$(MAKE) --no-print-directory build PRESET=release
	@tests/tools/bench.sh build/release $(ARGS)

matrix: build ## integration tests and demo on PostgreSQL 12 to 18 (fetches servers)
	@JOBS=$(JOBS) tests/tools/matrix.sh $(DIR) $(ARGS)

fuzz: install-deps ## libFuzzer on the decoders (SECONDS_EACH=60)
	@tests/tools/install-deps.sh fuzz && tests/tools/fuzz.sh

soak: build ## long rounds of seeded tests, then the demo again and again (SEEDS=2 for a short one; ARGS="ROUNDS [demo options]")
	@ctest --test-dir $(DIR) --output-on-failure -L soak
	@tests/tools/soak.sh $(DIR) $(ARGS)

docker-test: ## the demo in containers, where an engine runs
	@tests/docker/run.sh

clean: ## remove the build directories
	@rm -rf build
