#!/bin/sh
# Format, lint, types, floors beside the unit tests; runs all of them and names those that failed.
set -u
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
said=$(mktemp)
trap 'rm -f "$said"' EXIT
failed=
step() {
  name=$1; shift
  printf '\033[1m==>\033[0m %s\n' "$name"
  "$@" || failed="$failed $name"
}
{
  step format ruff format --check --quiet .
  step lint ruff check --quiet .
  step types mypy
  step second-reader basedpyright --level error
  step floors lint-imports --no-logo --cache-dir .import_linter_cache
  [ -z "$failed" ] || { printf 'check: failed:%s\n' "$failed"; exit 1; }
} >"$said" 2>&1 &
step unit python -m pytest -q -m "not e2e and not slow and not clients"
wait $! || failed="$failed (see above)"
cat "$said"
[ -z "$failed" ] || { printf 'check: failed:%s\n' "$failed" >&2; exit 1; }
