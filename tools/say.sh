# shellcheck shell=sh
# How the scripts here talk to a person; read with `.`, from the project's folder.
# Escape codes and a moving line are for a terminal, and only where NO_COLOR does not ask for none.
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then fancy=yes pace=${SAY_EVERY:-1}; else fancy='' pace=${SAY_EVERY:-15}; fi
say() { if [ "$fancy" ]; then printf '\033[1m==>\033[0m %s\n' "$*"; else printf '==> %s\n' "$*"; fi; }

# patiently WHAT DETAIL COMMAND...: runs a command that takes long and shows meanwhile that it goes on: one line that moves on a
# terminal, elsewhere a plain line every 15 seconds (or SAY_EVERY). What the command prints is kept in a file, which the function
# DETAIL reads (`:` for none); its standard error is shown.
patiently() {
  what=$1 detail=$2; shift 2
  kept=$(mktemp)
  (
    began=$(date +%s)
    # A script that was interrupted does not end this loop, so the loop looks for the script. `sleep` must not hold its pipe open.
    while sleep "$pace" >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
      line="    $what: $(($(date +%s) - began)) s$("$detail" "$kept")"
      if [ "$fancy" ]; then printf '\r\033[K%s' "$line"; else printf '%s\n' "$line"; fi
    done
    rm -f "$kept"
  ) &
  ticker=$!
  status=0
  "$@" >"$kept" || status=$?
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  [ -z "$fancy" ] || printf '\r\033[K'
  rm -f "$kept"
  return "$status"
}
