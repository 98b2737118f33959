#!/bin/sh
# Mutation testing of the pure wings (secret/ and resource/) by mutmut: changes the code in small ways and counts the changes that no
# test notices. About ten minutes on two cores; a second run takes up where the first ended and looks again at what changed.
#   tools/mutation.sh               run, then the score
#   tools/mutation.sh results       the mutants that survived
#   tools/mutation.sh show NAME     one of them, as a diff
set -eu
cd "$(dirname "$0")/.."
top=$PWD
PATH="$top/.venv/bin:$PATH"
work=build/mutation
mkdir -p "$work"
# mutmut derives a module's name from its path and knows the source roots `.`, `src` and `source`, so operator/ is laid out as src/.
rm -rf "$work/src" "$work/tests"
cp -a operator "$work/src"
cp -a tests crds deploy docs README.md sandbox pyproject.toml "$work/"
cd "$work"
if [ $# -gt 0 ]; then exec mutmut "$@"; fi
# Off a terminal, mutmut's moving line would be thousands of lines.
if [ -t 1 ]; then mutmut run; else mutmut run >mutmut.log 2>&1 || { tail -n 20 mutmut.log >&2; exit 1; }; fi
mutmut export-cicd-stats >/dev/null
python "$top/tools/mutation_score.py" mutants/mutmut-cicd-stats.json
