from collections import Counter
from pathlib import Path

import pytest

from sandbox.binaries import AssetsError
from tools import matrix
from tools.matrix import Row, render_table, select_versions
from tools.outcome import Outcome

RELEASED = ["1.30.14", "1.31.0", "1.31.10", "1.31.9", "1.33.0", "1.34.0", "1.34.1", "1.35.0-rc.1"]
WELL = Outcome(passed=340, failed=(), skipped=Counter({"no redis-server": 2}), broke_off=False)


def test_the_least_the_default_and_the_newest_are_taken_with_the_patches_that_would_do() -> None:
    assert select_versions(RELEASED, least=(1, 31), default="1.33.0", every=False) == [
        ["1.31.10", "1.31.9", "1.31.0"],
        ["1.33.0"],
        ["1.34.1", "1.34.0"],
    ]


def test_a_default_that_is_in_no_list_and_is_the_newest_stays_the_default() -> None:
    assert select_versions(RELEASED, least=(1, 31), default="1.36.2", every=False)[-1] == ["1.36.2"]
    assert select_versions(RELEASED, least=(1, 31), default="1.34.7", every=False)[1:] == [["1.34.7"]]


def test_every_minor_version_is_taken_where_it_is_asked_for() -> None:
    chosen = select_versions(RELEASED, least=(1, 31), default="1.33.0", every=True)
    assert [patches[0] for patches in chosen] == ["1.31.10", "1.33.0", "1.34.1"]


def test_the_table_says_what_was_skipped_and_what_could_not_be_had() -> None:
    broken = Outcome(passed=1, failed=("tests.e2e.test_crd::test_a",), skipped=Counter(), broke_off=False)
    rows = [
        Row(kubernetes="1.31.0", etcd="3.5.15", outcome=WELL, fault="1.31.14 could not be had"),
        Row(kubernetes="1.34.1", etcd="3.6.4", outcome=broken),
        Row(kubernetes="1.35.0", fault="1.35.0 could not be had"),
    ]
    assert render_table(rows, today="2026-11-27").splitlines()[2:] == [
        "| 1.31.0 | 3.5.15 | 340 passed, 0 failed, 2 skipped | 2026-11-27 |",
        "| 1.34.1 | 3.6.4 | 1 passed, 1 failed, 0 skipped | 2026-11-27 |",
        "| 1.35.0 | unknown | not run | 2026-11-27 |",
        "1.31.0: 1.31.14 could not be had",
        "1.31.0: skipped 2: no redis-server",
        "1.34.1: failed: tests.e2e.test_crd::test_a",
        "1.35.0: 1.35.0 could not be had",
    ]


def test_a_patch_that_cannot_be_had_gives_way_to_the_one_before_and_the_table_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    etcd = tmp_path / "etcd"
    etcd.write_text("#!/bin/sh\necho 'etcd Version: 3.5.15'\n")
    etcd.chmod(0o755)

    def ensure(version: str) -> Path:
        if version == "1.31.0":
            return tmp_path
        raise AssetsError("not served")

    monkeypatch.setattr(matrix, "ensure_release", ensure)
    monkeypatch.setattr(matrix, "run_pytest", lambda *_arguments, **_keywords: WELL)
    monkeypatch.setattr(matrix, "find_releases", lambda: ["1.31.14", "1.31.0"])
    assert matrix.main([]) == 1, "the default could not be had"
    printed = capsys.readouterr().out
    assert "| 1.31.0 | 3.5.15 | 340 passed" in printed
    assert "1.31.0: 1.31.14 could not be had" in printed
    assert "not run" in printed


def test_a_version_that_is_named_is_run_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "etcd").write_text("#!/bin/sh\n")
    (tmp_path / "etcd").chmod(0o755)
    asked: list[str] = []

    def ensure(version: str) -> Path:
        asked.append(version)
        return tmp_path

    monkeypatch.setattr(matrix, "ensure_release", ensure)
    monkeypatch.setattr(matrix, "run_pytest", lambda *_arguments, **_keywords: WELL)
    assert matrix.main(["1.34.0"]) == 0
    assert asked == ["1.34.0"]
