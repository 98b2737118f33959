#!/bin/sh
# The unit tests under coverage, branches included, held to the floor in pyproject.toml (fail_under), which may only rise.
# The simulations run without it (tools/check.sh): they reach no line that others do not, and tracing doubles their time.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
coverage erase
coverage run -m pytest -q -n auto -m "not simulation and not e2e and not slow and not clients and not node" "$@"
coverage combine --quiet
python tools/coverage_floor.py
