from pathlib import Path

import pytest

from dbclusterref.commands.documents import documents_in, read_document
from dbclusterref.errors import SettingsError

NO_YAML = "it is neither YAML nor JSON"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a: b: CANARY", rf"{NO_YAML} \(line 1\)"),
        (b"a: *CANARY", rf"{NO_YAML} \(line 1\)"),
        (b"a: !!python/object:x.CANARY {}", rf"{NO_YAML} \(line 1\)"),
        (b"a: 1\n---\nb: c: d", rf"{NO_YAML} \(line 3\)"),
        (b"a: \x07", NO_YAML),
        (b"a: 2026-13-45", NO_YAML),
        (b"&a [*a]", NO_YAML),
        (b"\xff\xfe\xff", "it is not UTF-8 text"),
        (b"a: 1\n---\nb: 1\n", "several documents; give a file with one"),
    ],
)
def test_the_fault_of_a_file_is_named_by_its_kind_and_never_quoted(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=rf"bad\.yaml .*{why}") as raised:
        read_document(str(file))
    assert "CANARY" not in str(raised.value)


def test_a_folder_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="it is a folder"):
        read_document(str(tmp_path))
    with pytest.raises(SettingsError, match="it does not exist"):
        read_document(str(tmp_path / "none"))


def test_times_become_text_and_an_empty_file_is_nothing(tmp_path: Path) -> None:
    assert documents_in("a: 2026-01-05\n---\nb: 1\n", file="x") == [{"a": "2026-01-05"}, {"b": 1}]
    (tmp_path / "empty").touch()
    assert read_document(str(tmp_path / "empty")) is None
