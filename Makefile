# embound: the front door over CMake. `make` builds, `make help` lists what else there is.
# Variables: JOBS (parallel compilations), PREFIX and DESTDIR (install), FUZZ_SECONDS (each), ONLY
# (one of the C tests, for asan, ubsan and tsan).
# SPDX-License-Identifier: Apache-2.0
BUILD := build
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60
PYTHON ?= python3
MAKEFLAGS += --no-print-directory

.PHONY: all everything cuda triton test test-models test-slow test-python test-peers test-triton \
        wheel models demo bench check asan ubsan tsan fuzz torture install uninstall clean help deps

all: ## build/embound and build/libembound.so (default)
	@tools/deps.sh build
	@mkdir -p $(BUILD)
	@cmake --preset release -DCMAKE_INSTALL_PREFIX=$(PREFIX) >$(BUILD)/configure.log 2>&1 || \
	    { cat $(BUILD)/configure.log; exit 1; }
	@cmake --build $(BUILD) -j $(JOBS) --target embound embound_cli embound_docs triton_embound \
	    triton_batchstrategy

everything: all
	@tools/deps.sh test
	@cmake --build $(BUILD) -j $(JOBS)

deps: ## installs the Debian packages that building, testing and pip need, or names them
	@tools/deps.sh build test models python

cuda: ## build/libembound_cuda.so for the cards here, or CUDA_ARCHS="80-real;90a-real" (needs nvcc)
	@tools/nvcc.sh >/dev/null
	@$(MAKE) all
	@cmake --preset cuda -DCMAKE_INSTALL_PREFIX=$(PREFIX) \
	    $(if $(CUDA_ARCHS),-DCMAKE_CUDA_ARCHITECTURES="$(CUDA_ARCHS)") \
	    >$(BUILD)/configure.log 2>&1 || { cat $(BUILD)/configure.log; exit 1; }
	@cmake --build $(BUILD)/cuda -j $(JOBS) --target embound_cuda embound_summary

test: everything ## all tests that need neither network nor real models, in at most 3 minutes
	@$(PYTHON) tools/run_tests.py --build $(BUILD)

test-models: everything ## tests on real weights (make models first)
	@$(PYTHON) tools/run_tests.py --build $(BUILD) --kind models

test-slow: everything ## the long rows, each at most 30 minutes
	@$(PYTHON) tools/run_tests.py --build $(BUILD) --kind slow

test-python: ## the Python package's tests, in build/venv-python (needs pip's index once)
	@tools/deps.sh python
	@tools/test_python.sh

test-peers: ## other packages' programs with an embound model (needs pip's index once)
	@tools/deps.sh python
	@tools/test_peers.sh

triton: all ## build/libtriton_embound.so and build/batchstrategy.so, a Triton backend

test-triton: everything ## the backend in a real tritonserver (needs pip's index once)
	@tools/deps.sh python
	@tools/test_triton.sh

wheel: ## build/wheels/embound-*.whl for every CPython from 3.11 (CUDA where there is an nvcc)
	@tools/deps.sh python
	@tools/wheel.sh

models: ## the three real models into build/models
	@tools/deps.sh models
	@$(PYTHON) tools/get_models.py

demo: ## builds, gets a model, plans for 64 MiB, encodes the samples, searches them
	@tools/demo.sh

bench: everything ## JSON lines of throughput, stages and peaks
	@bench/run.sh

check: ## format, layers, style, symbols, headers, warnings as errors with gcc and clang
	@tools/deps.sh check
	@tools/check_all.sh $(JOBS)

asan ubsan tsan: ## the C tests under a sanitizer (ONLY=test_threads: that one)
	@tools/deps.sh test
	@cmake --preset $@ >/dev/null
	@cmake --build $(BUILD)/$@ -j $(JOBS) $(if $(ONLY),--target $(ONLY))
	@$(PYTHON) tools/run_tests.py --build $(BUILD)/$@ --kind sanitized --only "$(ONLY)"

fuzz: ## FUZZ_SECONDS of each fuzz program, starting from the corpus (needs clang)
	@tools/deps.sh fuzz
	@cmake --preset fuzz >/dev/null
	@cmake --build $(BUILD)/fuzz -j $(JOBS)
	@tools/fuzz.sh $(BUILD)/fuzz $(FUZZ_SECONDS)

torture: everything ## fails every allocation and system call in turn, in every variant
	@$(PYTHON) tests/torture/test_torture.py --full

install: all ## program, library, header, .pc file, man page and completion (PREFIX, DESTDIR)
	@tools/install.sh $(BUILD) "$(PREFIX)" "$(DESTDIR)"

uninstall: ## removes what the last `make install` wrote
	@tools/install.sh --remove $(BUILD) "$(DESTDIR)"

clean: ## removes build/, real models included
	@rm -rf $(BUILD)

help: ## this list
	@awk -F ':[^#]*## ' '/^[a-z][a-z -]*:.*## /{printf "  %-16s %s\n", $$1, $$2}' Makefile
