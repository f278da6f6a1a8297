# embound: the front door over CMake. `make` builds, `make help` lists what else there is.
# Variables: JOBS (parallel compilations), PREFIX and DESTDIR (install), FUZZ_SECONDS (each).
# SPDX-License-Identifier: Apache-2.0
BUILD := build
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60
PYTHON ?= python3

.PHONY: all everything cuda test test-models test-slow test-python wheel models demo bench check \
        asan ubsan tsan fuzz torture install clean help deps

all: ## build/embound and build/libembound.so (default)
	@mkdir -p $(BUILD)
	@cmake --preset release -DCMAKE_INSTALL_PREFIX=$(PREFIX) >$(BUILD)/configure.log 2>&1 || \
	    { cat $(BUILD)/configure.log; exit 1; }
	@cmake --build $(BUILD) -j $(JOBS) --target embound embound_cli embound_docs

everything: all
	@cmake --build $(BUILD) -j $(JOBS)

deps:
	@tools/deps.sh

cuda: all ## build/libembound_cuda.so, which the program opens at run time (CUDA_ARCHS=90a-real)
	@cmake --preset release -DEMB_CUDA=ON \
	    $(if $(CUDA_ARCHS),-DCMAKE_CUDA_ARCHITECTURES="$(CUDA_ARCHS)") \
	    >$(BUILD)/configure.log 2>&1 || { cat $(BUILD)/configure.log; exit 1; }
	@cmake --build $(BUILD) -j $(JOBS) --target embound_cuda

test: deps ## all tests that need neither network nor real models, in at most 3 minutes
	@$(MAKE) --no-print-directory everything
	@$(PYTHON) tools/run_tests.py --build $(BUILD)

test-models: all ## tests on real weights (make models first)
	@$(PYTHON) tools/run_tests.py --build $(BUILD) --kind models

test-slow: all ## the long rows, each at most 30 minutes
	@$(PYTHON) tools/run_tests.py --build $(BUILD) --kind slow

test-python: deps ## the Python package's tests, in build/venv-python (needs pip's index once)
	@tools/test_python.sh

wheel: deps ## build/wheels/embound-*.whl for every CPython from 3.11, checked by its tools
	@tools/wheel.sh

models: ## the three real models into build/models
	@$(PYTHON) tools/get_models.py

demo: deps ## builds, gets a model, plans for 64 MiB, encodes the samples, searches them
	@$(MAKE) --no-print-directory all
	@tools/demo.sh

bench: everything ## JSON lines of throughput, stages and peaks
	@bench/run.sh

check: ## format, layers, style, symbols, headers, warnings as errors with gcc and clang
	@EMB_DEPS=check tools/deps.sh
	@tools/check_all.sh $(JOBS)

asan ubsan tsan: deps ## the C tests under a sanitizer
	@cmake --preset $@ >/dev/null
	@cmake --build $(BUILD)/$@ -j $(JOBS)
	@$(PYTHON) tools/run_tests.py --build $(BUILD)/$@ --kind sanitized

fuzz: ## FUZZ_SECONDS of each fuzz program, starting from the corpus (needs clang)
	@EMB_DEPS=check tools/deps.sh
	@cmake --preset fuzz >/dev/null
	@cmake --build $(BUILD)/fuzz -j $(JOBS)
	@tools/fuzz.sh $(BUILD)/fuzz $(FUZZ_SECONDS)

torture: everything ## fails every allocation and system call in turn, in every variant
	@$(PYTHON) tests/torture/test_torture.py --full

install: all ## program, library, header, .pc file, man page and completion (PREFIX, DESTDIR)
	@DESTDIR=$(DESTDIR) cmake --install $(BUILD) --prefix $(PREFIX)

clean: ## removes build/, real models included
	@rm -rf $(BUILD)

help: ## this list
	@awk -F ':[^#]*## ' '/^[a-z][a-z -]*:.*## /{printf "  %-16s %s\n", $$1, $$2}' Makefile
