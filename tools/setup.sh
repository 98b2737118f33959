#!/bin/sh
# Sets up everything the project needs, says what it does, and is quick when nothing is missing.
#   tools/setup.sh                 all of it
#   tools/setup.sh --python-only   the virtual environment alone
set -eu
cd "$(dirname "$0")/.."

. tools/say.sh
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Debian packages: command (or path) that shows it is there, package, what goes without it.
debian_packages() {
  cat <<'LIST'
pg_ctlcluster postgresql tests/clients with PostgreSQL
psql postgresql-client tests/clients with psql
pgbouncer pgbouncer tests/clients with connection pools
mariadbd mariadb-server tests/clients with MariaDB and MySQL
/usr/lib/python3/dist-packages/MySQLdb python3-mysqldb tests/clients with mysqlclient
redis-server redis-server tests/clients with Redis and Valkey
javac default-jdk-headless tests/clients with JDBC, Spring and Kafka
mvn maven tests/clients with JDBC, Spring and Kafka
prometheus prometheus tests/monitoring with Prometheus
mariadb mariadb-client tests/node
buildah buildah tests/node
busybox busybox-static tests/node
containerd containerd tests/node
/usr/lib/cni/bridge containernetworking-plugins tests/node
ip iproute2 tests/node
mmdebstrap mmdebstrap tests/node
nft nftables tests/node
runc runc tests/node
LIST
}

apt_updated=
apt_install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  if [ -z "$apt_updated" ]; then
    say "apt-get update"
    patiently "apt-get update" : apt-get update -qq || say "apt-get update failed; trying with the lists at hand"
    apt_updated=yes
  fi
  say "apt-get install $*"
  # Debian starts a server when it installs one; the tests start their own, so invoke-rc.d is told no for the time being.
  policy=/usr/sbin/policy-rc.d
  [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && policy_is_ours=yes; }
  installed=0
  patiently "apt-get install $*" : env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" || installed=1
  [ -z "${policy_is_ours:-}" ] || rm -f "$policy"
  policy_is_ours=
  return "$installed"
}

find_python() {
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  die "Python 3.11 or newer is needed and was not found; install it, or name it: PYTHON=/path/to/python3 make setup"
}

count_packages() {
  installing=$(grep -c '^Installing collected' "$1") || true
  if [ "$installing" != 0 ]; then printf ', installing'; else
    printf ', %s of %s' "$(grep -c '^Collecting ' "$1" || true)" "$(grep -c '^[^ #]' requirements/dev.txt)"
  fi
}

make_environment() {
  python=$(find_python)
  say "Virtual environment .venv ($("$python" --version))"
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    apt_install "python$version-venv" ||
      die "$python has no venv module; as root: apt-get install python$version-venv"
  fi
  "$python" -m venv --clear .venv
  say "Python packages, pinned by hash (requirements/dev.txt), about a minute"
  patiently "Python packages" count_packages .venv/bin/python -m pip install --disable-pip-version-check --no-deps \
    --require-hashes --progress-bar off -r requirements/dev.txt || die "pip could not install requirements/dev.txt; it says why above"
  .venv/bin/python -m pip check --disable-pip-version-check >/dev/null || die "the packages do not fit each other: .venv/bin/pip check"
  .venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
  cat requirements/dev.txt pyproject.toml tools/setup.sh | cksum >.venv/.ready
}

install_debian_packages() {
  debian_packages | while read -r program package without; do
    [ -e "$program" ] || PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$program" >/dev/null && continue
    apt_install "$package" </dev/null ||
      say "not installed: $package (as root: apt-get install $package); without it these are reported as skipped: $without"
  done
}

fresh() { [ -f .venv/.ready ] && [ "$(cat requirements/dev.txt pyproject.toml tools/setup.sh | cksum)" = "$(cat .venv/.ready)" ]; }

fresh || make_environment
touch .venv/.ready
[ "${1:-}" = --python-only ] && exit 0
install_debian_packages
say "Control-plane binaries"
.venv/bin/python -m sandbox --fetch-only >/dev/null
