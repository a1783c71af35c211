# Three targets are for everyone: `make venv`, `make demo` and `make test`. The tools are in .venv; `source .venv/bin/activate` to use them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)

VENV := .venv/.complete
INVENTORY := inventories/demo
ARTIFACT := build/airfield-metal.tar.gz
SHIPPED := $(shell git ls-files --cached --others --exclude-standard 2>/dev/null | grep -Ev '^(bench|molecule|testbed|\.ci)/')

# What failed stands at the end of the log, of which a CI may show no more.
define molecule_test
	rm -f build/failures.txt
	molecule test --scenario-name $(1) || { status=$$?; tail --lines=20 build/failures.txt 2>/dev/null || true; exit $$status; }
endef

.PHONY: help venv demo demo-down test test-faults test-mysql test-airflow2 test-upgrade test-upgrade-mysql lint unit sanity \
  molecule bench lock docs dev-env clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV) ## Put Ansible and the other tools into .venv, which is all that hosts of your own need

demo: $(VENV) ## Start five hosts in Docker and put an Airflow cluster on them
	ansible-playbook -i inventories/demo testbed/up.yml
	ansible-playbook -i inventories/demo site.yml
	@ansible-playbook -i inventories/demo testbed/welcome.yml >/dev/null && cat .testbed/demo/welcome.txt

demo-down: $(VENV) ## Remove the demo and all it left on this machine
	ansible-playbook -i inventories/demo testbed/down.yml
	testbed/remove.sh --caches

test: $(VENV) ## Check everything, from an empty machine
	$(MAKE) --jobs=2 --output-sync=target lint unit sanity
	$(MAKE) molecule

lint: $(VENV) ## Check style and types
	ruff check .
	ruff format --check .
	mypy
	mypy tests/unit tests/testinfra docs bench/run.py roles/airflow/files/airfield_slack/src
	yamllint --strict .
	shellcheck $$(git ls-files '*.sh' .ci/run)
	ansible-lint
	docs/reference.py --check
	docs/messages.py --check

unit: $(VENV) ## Test the plugins on their own
	pytest

sanity: $(VENV) $(ARTIFACT) ## Run Ansible's own checks on the built collection
	tests/sanity.sh $(ARTIFACT)

molecule: $(VENV) ## Put a cluster on test hosts and test it
	$(call molecule_test,default)

test-faults: $(VENV) ## Break a cluster under load, in every way that costs no task: takes hours
	$(call molecule_test,faults)

test-mysql: $(VENV) ## Put a cluster with MySQL on test hosts and test it
	$(call molecule_test,mysql)

test-airflow2: $(VENV) ## Put a cluster with Airflow 2.11 on hosts of its own, test and upgrade it
	$(call molecule_test,airflow2)

test-upgrade: $(VENV) ## Upgrade a cluster under load, with a release that does not work first
	$(call molecule_test,upgrade)

test-upgrade-mysql: $(VENV) ## Upgrade a cluster with Airflow 2.11 and MySQL, and take it back
	$(call molecule_test,upgrade_mysql)

bench: $(VENV) ## Measure against doing the same by hand
	bench/run.py

lock: $(VENV) ## Pin the packages of the controller and of every supported release anew
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	  --custom-compile-command "make lock" --group test --output-file requirements.lock pyproject.toml
	roles/airflow/files/releases/lock.sh

docs: $(VENV) ## Write what of the docs comes from the code anew
	docs/reference.py
	docs/messages.py --image

dev-env: $(VENV) ## Build .dev-env for DAG authors, with the packages of the cluster in INVENTORY
	ansible-playbook -i $(INVENTORY) playbooks/dev_env.yml

clean: demo-down ## Remove what make has made, the demo included
	rm -rf .venv .dev-env .testbed .ansible .cache build tests/output

# Python's venv module is a package of its own on Debian.
$(VENV): requirements.lock
	test -d .venv || python3 -m venv .venv || { testbed/apt.sh python3-venv && python3 -m venv --clear .venv; }
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes \
	  --requirement <(sed -n '/^uv==/,/[^\\]$$/p' requirements.lock)
	UV_SYSTEM_CERTS=1 uv pip sync --quiet --python .venv/bin/python requirements.lock
	touch $@

$(ARTIFACT): $(SHIPPED) | $(VENV)
	rm -rf $@ build/collection && mkdir -p build
	ansible-galaxy collection build --output-path build/collection >/dev/null
	@stray=$$(comm -13 <(git ls-files | sort) <(tar --list --file build/collection/*.tar.gz | \
	  grep -Ev '/$$|^(FILES|MANIFEST)\.json$$' | sort)); test -z "$$stray" || { rm -r build/collection; echo >&2 \
	  "Git does not know these files, and the collection would ship them. Remedy: move them away, or git add them:" $$stray; exit 1; }
	mv build/collection/*.tar.gz $@ && rmdir build/collection
