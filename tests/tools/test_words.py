import subprocess
from pathlib import Path

import pytest

from tools import words
from tools.words import Exemption, Hit, find_banned, find_misspelled, parse_banned


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / words.LISTS).mkdir(parents=True)
    (tmp_path / words.LISTS / "banned.txt").write_text("# a comment\n[mend|mends] -> fix\nby itself -> automatically\n")
    (tmp_path / words.LISTS / "exempt.txt").write_text("")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(words, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("to mend it", True),
        ("It mends.", True),
        ("Mend it.", True),
        ("drift_mend = 1", True),
        ("to amend it", False),
        ("a mendable thing", False),
        ("fix it", False),
    ],
)
def test_a_banned_word_is_found_as_a_word(*, text: str, found: bool, repository: Path) -> None:
    (repository / "text.md").write_text(text)
    hits = list(find_banned(repository, ["text.md"], [parse_banned("[mend|mends] -> fix")]))
    assert bool(hits) is found


def test_words_that_a_line_break_parts_are_found_on_the_line_where_they_begin(repository: Path) -> None:
    (repository / "text.md").write_text("It happens\nby\nitself.\n")
    hits = list(find_banned(repository, ["text.md"], [parse_banned("by itself -> automatically")]))
    assert [(hit.line, str(hit)) for hit in hits] == [(2, 'text.md:2: "by itself": write automatically')]


def test_pythons_none_is_not_the_word_none(repository: Path) -> None:
    (repository / "code.py").write_text("x is None\n")
    assert not list(find_banned(repository, ["code.py"], [parse_banned("is none -> is not a valid")]))


def test_a_line_without_a_replacement_is_refused() -> None:
    with pytest.raises(ValueError, match="names no replacement"):
        parse_banned("mend")


def test_a_misspelling_is_found_with_its_place(repository: Path) -> None:
    misspelled = "rec" + "ieve"
    (repository / "text.md").write_text(f"fine\nto {misspelled} it\n")
    (hit,) = find_misspelled(repository, ["text.md"])
    assert (hit.path, hit.line, hit.word) == ("text.md", 2, "spelling")
    assert "receive" in hit.text


@pytest.mark.parametrize(
    ("path", "word", "covers"),
    [
        ("docs/", "", True),
        ("docs/a.md", "", True),
        ("docs/*.md", "mend", True),
        ("docs/", "anew", False),
        ("doc", "", False),
        ("operator/", "", False),
    ],
)
def test_an_exemption_is_for_its_path_and_its_word(*, path: str, word: str, covers: bool) -> None:
    assert Exemption(path=path, word=word).covers(Hit(path="docs/a.md", line=1, word="mend", text="")) is covers


def test_a_hit_fails_the_check_until_it_is_exempted(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "text.md").write_text("to mend it\n")
    assert words.main([]) == 1
    assert capsys.readouterr().out == 'text.md:1: "mend": write fix\n'
    (repository / words.LISTS / "exempt.txt").write_text("text.md mend\n")
    assert words.main(["--count"]) == 0
    assert capsys.readouterr().out.split() == ["1", "text.md", "mend"]


def test_an_exemption_that_exempts_nothing_fails_the_check(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "text.md").write_text("fine\n")
    (repository / words.LISTS / "exempt.txt").write_text("docs/\n")
    assert words.main([]) == 1
    assert capsys.readouterr().out == "tools/words/exempt.txt: docs/ exempts nothing; delete the line\n"
    assert words.main(["text.md"]) == 0, "a run on some files knows nothing of the others"
