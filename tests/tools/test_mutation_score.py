from tools.mutation_score import describe

STATS = {"killed": 7, "timeout": 1, "segfault": 0, "survived": 1, "no_tests": 1, "suspicious": 0, "skipped": 2, "total": 12}


def test_a_mutant_that_no_test_reaches_counts_as_survived() -> None:
    assert describe(STATS) == "mutation score 80.0 %: 8 of 10 mutants noticed, 1 survived, 1 reached by no test"


def test_a_run_that_was_cut_short_has_no_score() -> None:
    assert describe({**STATS, "killed": 5}) == "no mutation score yet: 2 of 10 mutants were not checked; run it to its end"
