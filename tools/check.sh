#!/bin/sh
# Everything that needs no control plane: style, types, wings, words, workflows, and the unit tests with their coverage.
# Two lanes run side by side; every step runs, and those that failed are named at the end. `make test` adds the simulations, and
# draws five times as many examples for each property.
set -u
cd "$(dirname "$0")/.." || exit 1
PATH="$PWD/.venv/bin:$PATH"
# Without bytecode each process compiles all tests once more, which costs ten seconds.
unset PYTHONDONTWRITEBYTECODE
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then bold='\033[1m' plain='\033[0m'; else bold='' plain=''; fi
said=$(mktemp)
trap 'rm -f "$said"' EXIT
failed=
step() {
  name=$1; shift
  # shellcheck disable=SC2059 # the two are escape sequences of our own
  printf "$bold==>$plain %s\n" "$name"
  "$@" || failed="$failed $name"
}
{
  step format ruff format --check --quiet .
  step lint ruff check --quiet .
  step shell shellcheck tools/*.sh requirements/*.sh .ci/run
  step wings lint-imports --no-logo --cache-dir .import_linter_cache
  step words python tools/words.py
  step docs python -m tools.site --check
  step workflows python -m tools.workflows
  step pre-commit pre-commit validate-config
  step types mypy
  # All of the quick tests but those that tools/coverage.sh runs.
  step others python -m pytest -q --hypothesis-profile quick --ignore tests/unit \
    -m "not simulation and not e2e and not slow and not clients and not node"
  [ -z "$failed" ] || { printf 'check: failed:%s\n' "$failed"; exit 1; }
} >"$said" 2>&1 &
step unit tools/coverage.sh
wait $! || failed="$failed (see above)"
cat "$said"
[ -z "$failed" ] || { printf 'check: failed:%s\n' "$failed" >&2; exit 1; }
