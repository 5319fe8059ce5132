# Needs Python 3.11 or newer and make; everything else goes into .venv.
# A file .venv/.*-installed says what is in there; it is written only when an installation has ended well.

PYTHON ?= python3
LAB_FLAGS ?=# for JupyterLab, such as --no-browser or --allow-root
ARGS ?=# for pytest
LESSON ?=# for grade, such as 03_rope: all lessons without it
JSON ?=# for grade: a file for all verdicts, such as points.json

RUN := .venv/bin/python

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help lab grade update test check lint format notebooks grader-report bench clean

help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

lab: .venv/.course-installed ## open the course in JupyterLab (LAB_FLAGS=--no-browser)
	@case "$$(id -u) $(LAB_FLAGS)" in *--allow-root*) ;; "0 "*) echo "You are root, as in a container, and Jupyter" \
		"wants to hear that you mean it: make lab LAB_FLAGS=--allow-root" >&2; exit 1 ;; esac
	$(RUN) -m jupyterlab --ip=127.0.0.1 --ServerApp.root_dir="$$(pwd)" \
		--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(LAB_FLAGS)

grade: .venv/.course-installed ## grade your exercises, all or one lesson's (LESSON=03_rope JSON=points.json)
	@$(RUN) -m llama_lessons.grading $(LESSON) $(if $(JSON),--json "$(JSON)")

update: .venv/.course-installed ## bring the course to its newest version, and keep your work in it
	@$(RUN) -m llama_lessons.update

test: lint ## for authors: lint, and run every test and every notebook (ARGS="-k rope")
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder $(ARGS)

check: lint ## for authors: lint, and run the quick tests
	$(RUN) -m pytest tests -m "not slow and not browser" $(ARGS)

lint: .venv/.tests-installed
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

format: .venv/.tests-installed ## for authors: format code and notebooks
	$(RUN) -m ruff check --fix --exit-zero
	$(RUN) -m ruff format

notebooks: .venv/.tests-installed ## for authors: write exercises/ anew, execute the notebooks whose code has changed
	$(RUN) -m tools.cut
	$(RUN) -m tools.normalise

grader-report: .venv/.tests-installed ## for authors: which mistakes the grader names, which mutants survive
	$(RUN) -m tools.grader_report

bench: .venv/.tests-installed ## for authors: the speed figures, beside those of peers; they go into the README too
	$(RUN) -m benchmarks
	$(RUN) -m benchmarks.grader

clean: ## remove .venv and all that was made on the way
	rm -rf .venv build test-results *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/.made:
	@command -v "$(PYTHON)" > /dev/null || { echo "$(PYTHON) is not found. Install Python 3.11 or newer, or name it:" \
		"make PYTHON=/path/to/python ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, and" \
		"$(PYTHON) is $$("$(PYTHON)" -V 2>&1). Name a newer one: make PYTHON=/path/to/python ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2> /dev/null || { echo "$(PYTHON) cannot make virtual environments." \
		"On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv .venv
	@touch $@

.venv/.course-installed: .venv/.made requirements.txt pyproject.toml tools/lab_settings.json
	$(RUN) -m pip install -r requirements.txt
	$(RUN) -m pip install --no-deps -e .
	@mkdir -p .venv/share/jupyter/lab/settings
	@cp tools/lab_settings.json .venv/share/jupyter/lab/settings/overrides.json
	@touch $@

.venv/.tests-installed: .venv/.course-installed requirements-test.txt
	$(RUN) -m pip install -r requirements-test.txt
	@touch $@
