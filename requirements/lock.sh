#!/bin/sh
# Writes the lock files from pyproject.toml: names, versions and hashes for every platform and Python >= 3.11, no addresses.
#   requirements/lock.sh            keep what is locked where it still fits
#   requirements/lock.sh --upgrade  take the newest of everything
set -eu
cd "$(dirname "$0")/.."
lock() {
  out=$1; shift
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
    --no-emit-find-links --output-file "$out" "$@"
}
lock requirements/runtime.txt pyproject.toml ${1:+"$1"}
lock requirements/build.txt --group build ${1:+"$1"}
lock requirements/audit.txt --group audit ${1:+"$1"}
lock requirements/dev.txt pyproject.toml --group dev --group build --group docs --constraint requirements/runtime.txt ${1:+"$1"}
lock requirements/docs.txt --group docs --constraint requirements/dev.txt ${1:+"$1"}
