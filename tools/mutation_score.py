"""Print the mutation score from mutmut's statistics."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path


def main() -> int:
    """Read the file that `mutmut export-cicd-stats` wrote."""
    print(describe(json.loads(Path(sys.argv[1]).read_text())))
    return 0


def describe(stats: Mapping[str, int]) -> str:
    """Name the share that the tests noticed: killed or timed out, of all; a mutant that no test reaches counts as survived."""
    noticed = stats["killed"] + stats["timeout"] + stats["segfault"]
    total = stats["total"] - stats["skipped"]
    unchecked = total - noticed - stats["survived"] - stats["no_tests"] - stats["suspicious"]
    if unchecked:
        return f"no mutation score yet: {unchecked} of {total} mutants were not checked; run it to its end"
    score = 100 * noticed / total if total else 0.0
    return (
        f"mutation score {score:.1f} %: {noticed} of {total} mutants noticed, "
        f"{stats['survived']} survived, {stats['no_tests']} reached by no test"
    )


if __name__ == "__main__":
    sys.exit(main())
