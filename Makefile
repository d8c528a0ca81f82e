# One command for each thing a developer does; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE ?= $(HOME)/.cache/milepost
PYTHON ?= python3
# The reference reader's two libraries.
VENV := $(CACHE)/python
# PyTorch and the rivals that the benchmarks run: several gigabytes, made only when asked for.
TORCH_VENV ?= $(CACHE)/torch
DATA ?= $(CACHE)/data
# Cargo's own tools, each in one exact version: an older one on the PATH may read other files.
TOOLS := $(CACHE)/tools
CARGO_DENY := 0.20.2
CARGO_FUZZ := 0.13.2
FUZZ_SECONDS ?= 60
CRASH_STATES ?= 1000000
# What `make torture` does; `make torture-small` does little of each.
TORTURE_CUTS ?= 20000
TORTURE_KILLS ?= 20000
TORTURE_PERCENT ?= 100
TORTURE_BLOCKS ?= 1
TORTURE_EVERY ?= 1
TORTURE_SECONDS ?= 3600
TORTURE_SAVERS ?= 20

export MILEPOST_PYTHON := $(VENV)/bin/python
export PATH := $(TOOLS)/bin:$(PATH)

.PHONY: help test lint deny crash torture torture-small savers mutants fuzz real scale demo clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

test: $(VENV)/ready ## set up what is needed and run every test
	cargo test --workspace --locked

lint: ## formatting and lints, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo fmt --all --check --manifest-path fuzz/Cargo.toml

deny: $(TOOLS)/cargo-deny-$(CARGO_DENY) ## licences, sources and bans of dependencies
	$(TOOLS)/bin/cargo-deny check licenses bans sources

crash: ## the crash simulator at full scale (CRASH_STATES=1000000)
	MILEPOST_CRASH_STATES=$(CRASH_STATES) cargo test --release --locked --test tests crash:: -- --nocapture

torture: ## the built command on real file systems: power cuts, kills, failing calls, full disks
	cargo build --release --locked
	$(PYTHON) tests/torture/power_cuts.py --cuts $(TORTURE_CUTS)
	$(PYTHON) tests/torture/kills.py --kills $(TORTURE_KILLS)
	$(PYTHON) tests/torture/syscalls.py --percent $(TORTURE_PERCENT)
	$(PYTHON) tests/torture/full_disks.py --blocks $(TORTURE_BLOCKS)
	$(PYTHON) tests/torture/permissions.py --every $(TORTURE_EVERY)
	$(PYTHON) tests/torture/soak.py --seconds $(TORTURE_SECONDS)

torture-small: ## the same in a minute and a half
	$(MAKE) torture TORTURE_CUTS=100 TORTURE_KILLS=150 TORTURE_PERCENT=1 TORTURE_BLOCKS=16 \
		TORTURE_EVERY=8 TORTURE_SECONDS=5

savers: $(TORCH_VENV)/ready ## what torch.save and others leave behind a power cut; prints the table
	cargo build --release --locked
	$(PYTHON) tests/torture/power_cuts.py --savers --cuts $(TORTURE_SAVERS) --torch-python $(TORCH_VENV)/bin/python

mutants: ## take steps out of the engine, one at a time: tests must notice (an hour or less)
	$(PYTHON) tests/mutants.py $(MUTANTS)

fuzz: $(TOOLS)/cargo-fuzz-$(CARGO_FUZZ) ## every fuzz target for FUZZ_SECONDS=60 each
	./fuzz/run $(FUZZ_SECONDS)

real: $(TORCH_VENV)/ready ## train, save, restore and compare eight real states; prints the table
	cargo build --release --locked
	$(TORCH_VENV)/bin/python benches/workloads/pretrain.py --out $(DATA)/pretrain
	$(TORCH_VENV)/bin/python benches/real.py --milepost target/release/milepost --states $(DATA)/pretrain

scale: ## many checkpoints, long chains and large states; prints the figures
	cargo build --release --locked
	$(PYTHON) benches/scale.py --milepost target/release/milepost

demo: ## what a newcomer types first
	cargo run --release --locked -- demo

clean: ## remove what was built here; environments and data in CACHE stay
	cargo clean
	rm -rf fuzz/target fuzz/artifacts fuzz/coverage

$(TOOLS)/cargo-%:
	tool=$*; cargo install --locked --quiet --root $(TOOLS) "cargo-$${tool%%-*}" --version "$${tool#*-}"
	touch $@

$(VENV)/ready: tests/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

$(TORCH_VENV)/ready: benches/workloads/requirements.txt
	$(PYTHON) -m venv $(TORCH_VENV)
	$(TORCH_VENV)/bin/pip install --quiet --disable-pip-version-check -r benches/workloads/requirements.txt
	touch $@
