PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
BESIDE := $(CURDIR)/$(VENV)/beside-the-wheel
OLDEST := $(VENV)/dp-accounting-oldest
MLFLOW := $(VENV)/mlflow
DASK := $(VENV)/dask
DOCS := $(VENV)/docs
PROMETHEUS := $(VENV)/prometheus
SBOM := $(VENV)/sbom
FUZZ := $(VENV)/fuzz
COVERAGE := $(VENV)/coverage
HOOKS := $(VENV)/hooks
# What `make test` runs.
FAST := not slow and not documents and not integration
# Budget of each target of `make fuzz`.
FUZZ_SECONDS ?= 60
# Times in a wheel: those of the last commit, so that it builds the same bytes again.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1767225600)
# TensorFlow's start-up notices are of no use here.
export TF_CPP_MIN_LOG_LEVEL ?= 2

# The Pythons on which the tests of the core run, those of them that exist, and these tests.
CORE_PYTHONS ?= python3.12 python3.13
CORE_TESTS := tests/core tests/reports/test_report.py tests/cli/test_cli_ledger.py \
  $(addprefix tests/accounting/test_,accountant.py calibration.py conformance.py curves.py dominance.py) \
  $(addprefix tests/ledger/test_ledger_,bad_input.py bounds.py budget.py rounds.py statement.py) \
  $(addprefix tests/secagg/test_secagg_,blame.py cost.py known_answers.py mutants.py privacy.py processes.py verify.py)

.PHONY: help env env-dask env-mlflow env-prometheus demo test coverage test-integration test-docs test-accounting test-core test-mlflow test-dask test-prometheus test-all conformance lint hooks format fuzz bench bench-peers notebooks docs doctor lock sbom wheel clean

help:  ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.stamp: requirements.lock setup.py
	@echo 'Making $(VENV): about 530 MB of wheels, a minute or two.'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

env: $(VENV)/.stamp  ## Make the environment in .venv

# Into the environment; `make env` alone has none of them.
env-dask: env  ## Add Dask to .venv, for `runtime.Cluster`
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements/dask.txt

env-mlflow: env  ## Add MLflow to .venv, for `learning.MLflowReleaseManager`
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements/mlflow.txt

env-prometheus: env  ## Add prometheus_client to .venv, for `serve --metrics`
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements/prometheus.txt

demo: env  ## Train a private federated model on real data, epsilon printed each round
	$(BIN)/tff-privacy-agg train $(ARGS)

test: env  ## Run the tests that are fast
	$(BIN)/python -m pytest -n 2 --dist loadfile -m '$(FAST)' $(ARGS)

coverage: $(COVERAGE)/.stamp  ## Run the fast tests and measure what they cover, with a floor
	PYTHONPATH=$(CURDIR)/$(COVERAGE) $(MAKE) test ARGS='$(ARGS) --cov'

$(COVERAGE)/.stamp: requirements/coverage.txt $(VENV)/.stamp
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes --upgrade \
	  --target $(COVERAGE) -r requirements/coverage.txt
	touch $@

test-integration: env  ## Run the tests that train, serve or start processes
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'integration and not slow' $(ARGS)

test-docs: env docs  ## Run what the documents show, and look at their site
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'documents and not slow' tests/test_docs.py tests/test_docs_commands.py tests/test_docs_site.py $(ARGS)

test-all: env  ## Run the tests, the slow ones too
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-accounting: $(OLDEST)/.stamp  ## Run the accounting's tests with the oldest dp_accounting that is supported
	PYTHONPATH=$(OLDEST) $(BIN)/python -m pytest -n 2 --dist loadfile tests/accounting $(ARGS)

# The newest one is in the lock. Only the accounting's yardsticks import it.
$(OLDEST)/.stamp: requirements/dp-accounting-oldest.txt $(VENV)/.stamp
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes --upgrade \
	  --target $(OLDEST) -r requirements/dp-accounting-oldest.txt
	touch $@

test-core: wheel  ## Run the core's tests from the wheel, without TensorFlow, on newer Pythons, and a notebook there
	@mkdir -p $(BESIDE) && ln -sfn $(CURDIR)/tools $(BESIDE)
	@for python in $(CORE_PYTHONS); do \
	  if ! $$python -c '' 2> /dev/null; then echo "There is no $$python here: not tested."; continue; fi; \
	  echo "The core, from the wheel, with $$($$python --version):"; \
	  $(MAKE) -s $(VENV)/$$python/.stamp || exit 1; \
	  $(VENV)/$$python/bin/pip install -q --disable-pip-version-check --no-deps --no-index \
	    --find-links dist --force-reinstall tff_privacy_agg || exit 1; \
	  $(VENV)/$$python/bin/pip check || exit 1; \
	  PYTHONSAFEPATH=1 PYTHONPATH=$(BESIDE) $(VENV)/$$python/bin/python -m pytest -n 2 --dist loadfile \
	    -m 'not slow' \
	    $(CORE_TESTS) || exit 1; \
	done
	$(BIN)/python -m pytest -m 'not slow' tests/notebooks/test_hosted.py $(ARGS)

$(VENV)/python3.%/.stamp: requirements/core.txt
	rm -rf $(@D)
	python3.$* -m venv $(@D)
	$(@D)/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/core.txt
	touch $@

test-dask: $(DASK)/.stamp  ## Run the tests with Dask
	PYTHONPATH=$(DASK) $(BIN)/python -m pytest tests/runtime/test_pool.py -k 'dask or scheduler' $(ARGS)

$(DASK)/.stamp: requirements/dask.txt $(VENV)/.stamp
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes --upgrade \
	  --target $(DASK) -r requirements/dask.txt
	touch $@

test-prometheus: $(PROMETHEUS)/.stamp  ## Run the tests of `serve --metrics`
	PYTHONPATH=$(PROMETHEUS) $(BIN)/python -m pytest tests/deployment/test_metrics_port.py $(ARGS)

$(PROMETHEUS)/.stamp: requirements/prometheus.txt $(VENV)/.stamp
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes --upgrade \
	  --target $(PROMETHEUS) -r requirements/prometheus.txt
	touch $@

test-mlflow: $(MLFLOW)/.stamp  ## Run the tests with MLflow
	PYTHONPATH=$(MLFLOW) $(BIN)/python -m pytest tests/learning/test_statement_release.py $(ARGS)

# Apart from the environment, which holds for those without MLflow, too.
$(MLFLOW)/.stamp: requirements/mlflow.txt $(VENV)/.stamp
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes --upgrade \
	  --target $(MLFLOW) -r requirements/mlflow.txt
	touch $@

conformance: env  ## Compare the accounting with reference cases: ARGS=FILE
	$(BIN)/python -m tools.conformance $(if $(ARGS),$(ARGS),tests/accounting/dp-reference.json)

lint: env  ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

hooks: $(HOOKS)/.stamp  ## Check format, lint and types before each commit
	$(HOOKS)/bin/pre-commit install

# An environment of its own: what runs the hooks needs none of what they check.
$(HOOKS)/.stamp: requirements/hooks.txt $(VENV)/.stamp
	test -x $(HOOKS)/bin/python || $(PYTHON) -m venv $(HOOKS)
	$(HOOKS)/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements/hooks.txt
	touch $@

format: env  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: env  ## Measure rounds beside TFF's own aggregators
	$(BIN)/python benchmarks/rounds.py $(ARGS)

bench-peers: env  ## Measure other secure sums next to ours, each in an environment of its own
	$(BIN)/python benchmarks/peers.py --folder $(or $(FOLDER),$(CURDIR)/$(VENV)/peers) $(ARGS)

notebooks: env  ## Run the text twins and write the notebooks
	$(BIN)/python notebooks/build.py $(ARGS)

docs: $(DOCS)/.stamp  ## Build the site of the documents in site/, warnings as errors
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --strict $(ARGS)

# The site is made from the text of the sources: neither TensorFlow nor the environment is needed.
$(DOCS)/.stamp: requirements/docs.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements/docs.txt
	touch $@

doctor: env  ## Say what is installed and whether it works
	$(BIN)/tff-privacy-agg doctor

lock:  ## Solve requirements.lock, requirements/core.txt and requirements/docs.txt again (needs uv)
	uv pip compile --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_31 --override requirements/overrides.txt \
	  requirements/requirements-dev.in -o requirements.lock
	uv pip compile --generate-hashes --no-header --no-annotate --python-version 3.12 --universal \
	  requirements/core.in -o requirements/core.txt
	uv pip compile --generate-hashes --no-header --no-annotate --python-version 3.11 --universal \
	  requirements/docs.in -o requirements/docs.txt

fuzz: $(FUZZ)/.stamp  ## Fuzz what reads others' bytes, FUZZ_SECONDS=60 for each of 5 targets
	for target in messages frames broadcasts ledgers settings; do \
	  PYTHONPATH=$(FUZZ) $(BIN)/python -m tools.fuzz $$target $(FUZZ_SECONDS) || exit 1; done

# Apart from the environment: a fuzzer with its own libFuzzer, for this alone.
$(FUZZ)/.stamp: requirements/fuzz.txt $(VENV)/.stamp
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes --upgrade \
	  --target $(FUZZ) -r requirements/fuzz.txt
	touch $@

sbom: $(SBOM)/.stamp  ## Write dist/sbom.cdx.json (CycloneDX) from the lock
	mkdir -p dist
	PYTHONPATH=$(SBOM) $(BIN)/python -m cyclonedx_py requirements --output-reproducible \
	  -o dist/sbom.cdx.json requirements.lock

$(SBOM)/.stamp: requirements/sbom.txt $(VENV)/.stamp
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes --upgrade \
	  --target $(SBOM) -r requirements/sbom.txt
	touch $@

wheel: env  ## Build the wheel in dist/, the same bytes from the same commit
	rm -rf build
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(BIN)/pip wheel -q --disable-pip-version-check \
	  --no-deps --no-build-isolation -w dist .

clean:  ## Remove the environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
