#!/bin/sh
# What a release checks and says; the workflow release.yaml calls it, and it runs anywhere.
#   tools/release.sh verify TAG   fail unless everything that names a version agrees with the tag
#   tools/release.sh notes TAG    print the changelog's section
#   tools/release.sh base FILE    print the base image that a Dockerfile names, whose digest the release looks up
set -eu
cd "$(dirname "$0")/.."

die() { printf 'release: %s\n' "$*" >&2; exit 1; }

verify() {
  version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
  [ "$1" = "v$version" ] || die "the tag is $1, pyproject.toml has $version. Tag v$version, or change the version."
  chart=$(sed -n 's/^version: //p' charts/dbclusterref/Chart.yaml)
  [ "$chart" = "$version" ] || die "the chart has $chart, pyproject.toml $version. Run make chart."
  grep -q "newTag: v$version\$" deploy/base/kustomization.yaml || die "deploy/base has another tag than v$version. Run make chart."
  heading=$(grep -m 1 '^## ' CHANGELOG.md)
  case $heading in
    "## $version (unreleased)") die "CHANGELOG.md says that $version is unreleased. Write the date there." ;;
    "## $version" | "## $version "*) ;;
    *) die "CHANGELOG.md begins with '$heading'. Write a section for $version." ;;
  esac
  kept=tests/deploy/released/$version.yaml
  cmp -s crds/dbclusterref.io_databaseclusterrefs.yaml "$kept" ||
    die "$kept is not this release's CRD. Run: cp crds/dbclusterref.io_databaseclusterrefs.yaml $kept"
}

notes() {
  awk -v version="${1#v}" '
    /^## / { if (found) exit; found = ($2 == version); next }
    found { print }
    END { exit !found }
  ' CHANGELOG.md || die "CHANGELOG.md has no section for ${1#v}."
}

base() {
  name=$(sed -n 's/^ARG PYTHON_IMAGE=//p' "$1")
  case $name in
    "") die "$1 has no ARG PYTHON_IMAGE=..., so its base is not known." ;;
    *@sha256:*) die "$1 names a digest already; the release looks it up itself. Name the tag alone." ;;
  esac
  printf '%s\n' "$name"
}

[ $# = 2 ] || die "write verify TAG, notes TAG or base FILE"
case $1 in
  verify) verify "$2" ;;
  notes) notes "$2" ;;
  base) base "$2" ;;
  *) die "unknown command $1; write verify TAG, notes TAG or base FILE" ;;
esac
