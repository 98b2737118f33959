#!/bin/sh
# The unit tests under coverage, branches included, held to the floor in pyproject.toml (fail_under), which may only rise.
# All others run without it beside them (tools/check.sh): they reach no line that these do not, and tracing doubles their time.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
coverage erase
coverage run -m pytest -q -n auto --dist worksteal --hypothesis-profile quick \
  -m "not simulation and not e2e and not slow and not clients and not node" tests/unit "$@"
coverage combine --quiet
python tools/coverage_floor.py
