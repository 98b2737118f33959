"""Files of YAML or JSON that a person names: their documents, and in words what is wrong with one that cannot be read."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from dbclusterref.errors import SettingsError

STANDARD_INPUT = "-"

_FAULTS = {
    FileNotFoundError: "it does not exist",
    IsADirectoryError: "it is a folder",
    PermissionError: "its permissions do not allow it",
}


def read_bytes(file: str) -> bytes:
    """Return what a file holds, or standard input for `-`. Raises SettingsError, as all of this module does."""
    try:
        return sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
    except OSError as error:
        why = _FAULTS.get(type(error), error.strerror or type(error).__name__)
        raise SettingsError(f"{file} cannot be read: {why}; give a readable file.") from None


def read_text(file: str) -> str:
    """Return a file's text."""
    try:
        return read_bytes(file).decode("utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{file} cannot be read: it is not UTF-8 text; give a YAML or JSON file.") from None


def read_document(file: str) -> object:
    """Return the one document of a file; times and the like become text, as they are in JSON."""
    documents = documents_in(read_text(file), file=file)
    if len(documents) > 1:
        raise SettingsError(f"{file} holds several documents; give a file with one.")
    return documents[0] if documents else None


def documents_in(text: str, *, file: str) -> Sequence[object]:
    """Return the documents of a text; `file` is where it is from."""
    try:
        return json.loads(json.dumps(list(yaml.safe_load_all(text)), default=str))  # type: ignore[no-any-return]
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        # Never the parser's own words: they quote the text, and that may be a password.
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if isinstance(mark, yaml.Mark) else ""
        raise SettingsError(f"{file} cannot be read: it is neither YAML nor JSON{line}; correct it.") from None
