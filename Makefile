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
# What the Python package's tests need; it sees the packages of TORCH_VENV beside its own.
PACKAGE_VENV := $(CACHE)/python-package
# Where this checkout's wheel is installed: checkouts share environments, not what they build.
PACKAGE_SITE := $(CURDIR)/target/python/site
PACKAGE_PROFILE ?= dev
DATA ?= $(CACHE)/data
# Workloads in the order in which they are made: several start from `pretrain`.
WORKLOADS ?= pretrain step finetune rl lora embed ema public
# The rivals' environment; ZipNN needs PyTorch, which it borrows from TORCH_VENV.
COMPARE_VENV ?= $(CACHE)/compare
COMPARE_FIGURES ?= $(CACHE)/compare.json
# Such as --sample-19, or --levels "fast" --budgets "2 16".
COMPARE_OPTIONS ?=
# Cargo's own tools, each in one exact version: an older one on the PATH may read other files.
TOOLS := $(CACHE)/tools
CARGO_DENY := 0.20.2
CARGO_FUZZ := 0.13.2
FUZZ_SECONDS ?= 60
CRASH_STATES ?= 1000000
# What draws plots.
PLOT_VENV := $(CACHE)/plot
# What `make torture` does; `make torture-small` does little of each.
TORTURE_STATES ?= 100000000
TORTURE_CUTS ?= 20000
TORTURE_KILLS ?= 20000
TORTURE_PERCENT ?= 100
TORTURE_BLOCKS ?= 1
TORTURE_EVERY ?= 1
TORTURE_SECONDS ?= 3600
TORTURE_FLIPS ?= 2000000
TORTURE_SAVERS ?= 20
ROUNDS ?= 10000

export MILEPOST_PYTHON := $(VENV)/bin/python
export PATH := $(TOOLS)/bin:$(PATH)

.PHONY: help test python kills wheel lint deny crash rig-programs torture torture-small savers mutants fuzz real \
	workloads speed layer endurance compare compare-test scenarios contexts anew growth kernels scale demo clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

test: $(VENV)/ready ## set up what is needed and run every test
	cargo test --workspace --locked
	$(MAKE) python

python: wheel ## build the Python package, check its sources, run its tests, kill its trainings
	cd python && $(PACKAGE_VENV)/bin/ruff format --check .
	cd python && $(PACKAGE_VENV)/bin/ruff check .
	cd python && $(PACKAGE_VENV)/bin/mypy
	cd python && PYTHONPATH=$(PACKAGE_SITE) $(PACKAGE_VENV)/bin/pytest
	cd python && PYTHONPATH=$(PACKAGE_SITE) $(PACKAGE_VENV)/bin/pytest -m kills tests/test_kills.py

kills: wheel ## kill a training of every framework again and again, resume it, compare the ends
	cd python && PYTHONPATH=$(PACKAGE_SITE) $(PACKAGE_VENV)/bin/pytest -m kills tests/test_kills.py

wheel: $(PACKAGE_VENV)/ready ## build the Python wheel and install it below target/
	rm -rf target/python/wheels $(PACKAGE_SITE)
	cd python && $(PACKAGE_VENV)/bin/maturin build --locked --profile $(PACKAGE_PROFILE) \
		--interpreter $(PACKAGE_VENV)/bin/python --out ../target/python/wheels
	$(PACKAGE_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps \
		--target $(PACKAGE_SITE) target/python/wheels/*.whl

lint: ## formatting and lints, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo fmt --all --check --manifest-path fuzz/Cargo.toml
	$(PYTHON) tests/mutants.py --check

deny: $(TOOLS)/cargo-deny-$(CARGO_DENY) ## licences, sources and bans of dependencies
	$(TOOLS)/bin/cargo-deny check licenses bans sources

crash: ## the crash simulator at full scale (CRASH_STATES=1000000)
	MILEPOST_CRASH_STATES=$(CRASH_STATES) cargo test --release --locked --test tests crash:: -- --nocapture

rig-programs: ## the programs that rigs need, installed where that is possible
	@lacking=; for program in mkfs.ext4 mkfs.xfs strace; do \
		command -v $$program >/dev/null || lacking="$$lacking $$program"; done; \
	if [ -n "$$lacking" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing$$lacking"; apt-get -qq update; \
		DEBIAN_FRONTEND=noninteractive apt-get -qqy install e2fsprogs xfsprogs strace >/dev/null; \
	fi

torture: rig-programs ## every fault rig at full scale: cuts, kills, failing calls, full disks, crash states, bits
	cargo build --release --locked
	$(PYTHON) tests/torture/power_cuts.py --cuts $(TORTURE_CUTS)
	$(PYTHON) tests/torture/kills.py --kills $(TORTURE_KILLS)
	$(PYTHON) tests/torture/syscalls.py --percent $(TORTURE_PERCENT)
	$(PYTHON) tests/torture/full_disks.py --blocks $(TORTURE_BLOCKS)
	$(PYTHON) tests/torture/permissions.py --every $(TORTURE_EVERY)
	$(PYTHON) tests/torture/soak.py --seconds $(TORTURE_SECONDS) --writers 4 --readers 4
	$(MAKE) crash CRASH_STATES=$(TORTURE_STATES)
	MILEPOST_BIT_FLIPS=$(TORTURE_FLIPS) cargo test --release --locked --test tests corruption::bits -- --nocapture

torture-small: ## the same in a minute and a half
	$(MAKE) torture TORTURE_STATES=20000 TORTURE_CUTS=100 TORTURE_KILLS=150 TORTURE_PERCENT=1 TORTURE_BLOCKS=16 \
		TORTURE_EVERY=8 TORTURE_SECONDS=5 TORTURE_FLIPS=4000

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

workloads: $(TORCH_VENV)/ready ## train what the comparison needs: WORKLOADS="step rl" for some
	for name in pretrain $(filter-out pretrain,$(WORKLOADS)); do \
		$(TORCH_VENV)/bin/python benches/workloads/$$name.py --out $(DATA)/$$name; done

speed: $(TORCH_VENV)/ready ## milepost's saves and restores beside its rivals', in turn; prints the table
	$(MAKE) wheel PACKAGE_PROFILE=release
	$(TORCH_VENV)/bin/python benches/workloads/pretrain.py --out $(DATA)/pretrain
	mkdir -p target/speed
	PYTHONPATH=$(PACKAGE_SITE) $(TORCH_VENV)/bin/python benches/compare/speed.py \
		--states $(DATA)/pretrain --work target/speed

layer: ## the Python layer's cost over the engine, and what a save in the background blocks
	$(MAKE) wheel PACKAGE_PROFILE=release
	mkdir -p target/layer
	PYTHONPATH=$(PACKAGE_SITE) $(PACKAGE_VENV)/bin/python benches/python_layer.py --work target/layer

endurance: ## ROUNDS=10000 saves and loads in one process: nothing may grow
	$(MAKE) wheel PACKAGE_PROFILE=release
	mkdir -p target/endurance
	PYTHONPATH=$(PACKAGE_SITE) $(PACKAGE_VENV)/bin/python benches/endurance.py --work target/endurance \
		--rounds $(ROUNDS)

compare: workloads compare-test ## milepost beside its rivals, into docs/: WORKLOADS="step rl" for some
	cargo build --release --locked
	$(COMPARE_VENV)/bin/python -W ignore benches/compare/compare.py --milepost target/release/milepost \
		--data $(DATA) --out $(COMPARE_FIGURES) --workloads "$(WORKLOADS)" $(COMPARE_OPTIONS)
	$(COMPARE_VENV)/bin/python benches/compare/report.py --figures $(COMPARE_FIGURES) \
		--table docs/comparison.md --plot docs/comparison.svg

scenarios: $(COMPARE_VENV)/ready ## few values and few changes, beside zstd; prints the table
	cargo build --release --locked
	$(COMPARE_VENV)/bin/python benches/scenarios.py --milepost target/release/milepost

anew: ## what coding anew makes of runs of which half was forgotten; prints the table
	$(MAKE) workloads WORKLOADS="pretrain step finetune lora ema"
	cargo build --release --locked
	$(PYTHON) benches/anew.py --milepost target/release/milepost --data $(DATA)

contexts: $(COMPARE_VENV)/ready ## what would tell a delta's bits beside the base's exponent
	$(MAKE) workloads WORKLOADS="pretrain finetune rl"
	$(COMPARE_VENV)/bin/python benches/compare/contexts.py $(DATA)/pretrain/step-00000{32,34}0.safetensors \
		{model,optim.exp_avg,optim.exp_avg_sq}.blocks.3.up.weight
	$(COMPARE_VENV)/bin/python benches/compare/contexts.py $(DATA)/finetune/step-000000{7,8}0.safetensors \
		{master,model}.blocks.3.up.weight
	$(COMPARE_VENV)/bin/python benches/compare/contexts.py $(DATA)/rl/step-0000001{8,9}.safetensors \
		model.blocks.3.up.weight

compare-test: $(COMPARE_VENV)/ready ## round trips of the codecs that the comparison re-creates
	$(COMPARE_VENV)/bin/python benches/compare/test_planes.py

growth: $(PLOT_VENV)/ready ## costs by length of a run, size of a state, threads; into docs/growth.svg
	cargo build --release --locked
	$(PLOT_VENV)/bin/python benches/growth.py --milepost target/release/milepost --plot docs/growth.svg

kernels: ## the codec's inner loops beside a copy
	cargo bench --bench kernels

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
	test -x $(TORCH_VENV)/bin/python || $(PYTHON) -m venv $(TORCH_VENV)
	$(TORCH_VENV)/bin/pip install --quiet --disable-pip-version-check -r benches/workloads/requirements.txt
	touch $@

$(PACKAGE_VENV)/ready: python/tests/requirements.txt python/tests/requirements-built.txt $(TORCH_VENV)/ready
	$(PYTHON) -m venv $(PACKAGE_VENV)
	for site in $(PACKAGE_VENV)/lib/python*/site-packages; do \
		echo $(TORCH_VENV)/lib/$$(basename $$(dirname $$site))/site-packages > $$site/torch.pth; \
	done
	$(PACKAGE_VENV)/bin/pip install --quiet --disable-pip-version-check -r python/tests/requirements.txt
	DS_BUILD_OPS=0 $(PACKAGE_VENV)/bin/pip install --quiet --disable-pip-version-check \
		--no-build-isolation -r python/tests/requirements-built.txt
	touch $@

$(PLOT_VENV)/ready: benches/requirements.txt
	test -x $(PLOT_VENV)/bin/python || $(PYTHON) -m venv $(PLOT_VENV)
	$(PLOT_VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(COMPARE_VENV)/ready: benches/compare/requirements.txt $(TORCH_VENV)/ready
	test -x $(COMPARE_VENV)/bin/python || $(PYTHON) -m venv $(COMPARE_VENV)
	$(COMPARE_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	$(TORCH_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' \
		> $$($(COMPARE_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/torch.pth
	touch $@
