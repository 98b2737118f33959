#!/bin/sh
# Builds the operator's image with buildah or docker, whichever is there, and puts it where a cluster finds it.
#   tools/image.sh [--image NAME] [--push]
# Loads it into the cluster of the current kubectl context, if that is one of kind, k3d or minikube. --push pushes it instead.
set -eu
cd "$(dirname "$0")/.."

. tools/say.sh
die() { printf 'image: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
image=ghcr.io/dbclusterref/dbclusterref:v$version
push=
while [ $# -gt 0 ]; do
  case $1 in
    --image) image=${2:?--image needs a name}; shift ;;
    --push) push=yes ;;
    *) die "unknown option $1; write --image NAME or --push" ;;
  esac
  shift
done

# A docker command without a daemon behind it builds nothing.
if have buildah; then engine=buildah
elif have docker && docker info >/dev/null 2>&1; then engine=docker
elif have docker; then die "docker is installed, but its daemon does not answer. Start it, or install buildah."
else die "neither buildah nor docker is installed. Install one of them."
fi

say "Building $image with $engine"
revision=$(git rev-parse HEAD 2>/dev/null || printf unknown)
created=$(date -u +%Y-%m-%dT%H:%M:%SZ)
case $engine in
  # Docker's format, because some clusters' loaders do not read the other one.
  buildah) set -- buildah build --format docker ;;
  docker) set -- docker build ;;
esac
"$@" --build-arg "REVISION=$revision" --build-arg "VERSION=$version" --build-arg "CREATED=$created" --tag "$image" .

if [ -n "$push" ]; then
  say "Pushing $image"
  "$engine" push "$image"
  exit
fi

context=$(kubectl config current-context 2>/dev/null || true)
case $context in
  kind-*) loader=kind cluster=${context#kind-} ;;
  k3d-*) loader=k3d cluster=${context#k3d-} ;;
  # minikube calls a context what it calls the profile; only it can tell.
  *) loader=
     if [ -n "$context" ] && have minikube && minikube -p "$context" status >/dev/null 2>&1; then
       loader=minikube cluster=$context
     fi ;;
esac
if [ -z "$loader" ]; then
  say "Built. The kubectl context ${context:-(none)} is not a kind, k3d or minikube cluster, so the image was not loaded."
  say "For another cluster push it to a registry: make image IMAGE=REGISTRY/dbclusterref:v$version PUSH=yes"
  exit
fi
have "$loader" || die "the kubectl context $context is a $loader cluster, but there is no $loader command to load the image with."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
archive=$scratch/image.tar
case $engine in
  buildah) buildah push "$image" "docker-archive:$archive:$image" ;;
  docker) docker save --output "$archive" "$image" ;;
esac
say "Loading $image into the $loader cluster $cluster"
case $loader in
  kind) kind load image-archive "$archive" --name "$cluster" ;;
  k3d) k3d image import "$archive" --cluster "$cluster" ;;
  minikube) minikube -p "$cluster" image load "$archive" ;;
esac
