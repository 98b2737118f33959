"""The template language of `spec.secret.template`, which the key tables use too: `{placeholder}` and `{placeholder:encoding}`.

Nothing is evaluated. Pure.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from urllib.parse import quote

ENDPOINT_PREFIXES = ("", "standby-", "public-", "public-standby-", "replica-")
PER_ENDPOINT = ("host", "port", "hostport", "username", "password", "userinfo", "database", "uri", "jdbc-url")
GENERAL = ("type", "engine", "ca", "ca-file", "ca-path", "sslmode", "tls-query", "access-cert", "access-key", "replica-hosts")
PLACEHOLDERS = frozenset({prefix + name for prefix in ENDPOINT_PREFIXES for name in PER_ENDPOINT} | set(GENERAL))
"""What a user's template may name. Whether one has a value depends on the cluster."""

MAXIMUM_ENCODINGS = 2
MOST_FAULTY = 10
"""Templates whose mistakes a message names; a status has room for few more."""

_QUOTED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_SHORT = 512
"""Characters. Only shorter templates are kept parsed: the cache would otherwise hold megabytes of users' text."""
_SHOWN = 3
"""Faults of one template that a message names."""


def _for_properties(text: str) -> str:
    r"""Java reads a properties file as Latin-1 and treats `\` as an escape: UTF-16 units, written like `\u00e9`."""
    units = text.encode("utf-16-be")
    characters = (int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2))
    return "".join(chr(unit) if 0x20 < unit < 0x7F and unit != 0x5C else f"\\u{unit:04x}" for unit in characters)  # noqa: PLR2004


ENCODINGS: Mapping[str, Callable[[str], str]] = {
    "url": lambda text: quote(text, safe=""),
    "quoted": lambda text: text.translate(_QUOTED),
    "properties": _for_properties,
}
"""`url`: percent-encoding; `quoted`: for between double quotes (option files, JAAS); `properties`: a Java properties value.

Each encodes character by character: so the size of a result follows from how often each character occurs."""

# Generous about names, so that a wrong one is named and not called a stray brace.
_PIECE = re.compile(r"\{\{|\}\}|\{([A-Za-z][\w.-]{0,63})((?::\w{0,63})*)\}|[{}]", re.ASCII)


class TemplateError(Exception):
    """The template's text is wrong; the message says where and what is allowed."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A placeholder with the text before it."""

    before: str
    name: str
    encodings: tuple[str, ...]

    def encoded(self, value: str) -> str:
        for encoding in self.encodings:
            value = ENCODINGS[encoding](value)
        return value

    def size(self, value: str) -> int:
        if not self.encodings:
            return _bytes_in(value)
        return sum(count * _bytes_in(self.encoded(character)) for character, count in Counter(value).items())


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: pieces, then the text that ends it."""

    pieces: tuple[_Piece, ...]
    end: str
    names: frozenset[str]

    def size(self, values: Mapping[str, str], *, measured: dict[Hashable, int] | None = None) -> int:
        """Return how many bytes `fill` would make, without making them; 0 where it would give None.

        `measured` is shared by the templates that are filled with the same values: a spec may name one a thousand times.
        """
        if not self.names <= values.keys():
            return 0
        known = {} if measured is None else measured
        total = sum(_bytes_in(piece.before) for piece in self.pieces) + _bytes_in(self.end)
        for piece in self.pieces:
            what = (piece.name, piece.encodings)
            if what not in known:
                known[what] = piece.size(values[piece.name])
            total += known[what]
        return total

    def fill(self, values: Mapping[str, str]) -> str | None:
        """Return the text with the values in place; None where a placeholder has none: such a key is left out."""
        if not self.names <= values.keys():
            return None
        filled = ""
        for piece in self.pieces:
            value = values[piece.name]
            filled += piece.before + (piece.encoded(value) if piece.encodings else value)
        return filled + self.end


def size_of_all(templates: Iterable[str], values: Mapping[str, str]) -> int:
    """Return how many bytes the templates would make together, without making them."""
    measured: dict[Hashable, int] = {}
    return sum(parse_template(template).size(values, measured=measured) for template in templates)


def parse_template(text: str) -> Template:
    """Raises TemplateError where the text is not a template. Does not judge which placeholders exist."""
    return _parse_short(text) if len(text) <= _SHORT else _parse(text)


def _parse(text: str) -> Template:
    pieces, before, done = [], "", 0
    for match in _PIECE.finditer(text):
        before += text[done : match.start()]
        done = match.end()
        if match[1]:
            pieces.append(_Piece(before, match[1], _encodings(match[1], match[2])))
            before = ""
        elif match[0] in "{}":
            raise TemplateError(_stray(match))
        else:
            before += match[0][0]
    return Template(tuple(pieces), before + text[done:], frozenset(piece.name for piece in pieces))


_parse_short = lru_cache(maxsize=512)(_parse)


def _encodings(name: str, text: str) -> tuple[str, ...]:
    if fault := _wrong_encoding(name, text):
        raise TemplateError(fault)
    return tuple(text.split(":")[1:])


def faults_in(text: str) -> str:
    """Return what is wrong with a user's template, all faults at once and in the text's order; "" where nothing is."""
    faults = list(dict.fromkeys(_faults(text)))
    # To guess what was meant takes half a millisecond, and there may be thousands to guess.
    shown = [describe(subject) for describe, subject in faults[:_SHOWN]]
    more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    return ", ".join(shown + more)


def faults_in_all(templates: Mapping[str, str], *, path: str) -> str:
    """Return the same of templates by their key, the first few that are wrong; "" where none is."""
    wrong = [(key, text) for key, text in sorted(templates.items()) if next(_faults(text), None)]
    more = [f"and {len(wrong) - MOST_FAULTY} more"] if len(wrong) > MOST_FAULTY else []
    return "; ".join([f"{path}.{key}: {faults_in(text)}" for key, text in wrong[:MOST_FAULTY]] + more)


def _faults(text: str) -> Iterator[tuple[Callable[[str], str], str]]:
    """Yield of each fault what it is about, and what describes it."""
    for match in _PIECE.finditer(text):
        if not match[1]:
            if match[0] in "{}":
                yield str, _stray(match)
            continue
        if match[1] not in PLACEHOLDERS:
            yield _unknown, match[1]
        if fault := _wrong_encoding(match[1], match[2]):
            yield str, fault


def _stray(match: re.Match[str]) -> str:
    return (
        f"a stray {match[0]} at character {match.start() + 1}: write a placeholder as `{{host}}` or `{{password:url}}`, and a "
        "brace itself twice, as `{{` or `}}`"
    )


def _wrong_encoding(name: str, text: str) -> str:
    encodings = text.split(":")[1:]
    for encoding in encodings:
        if encoding not in ENCODINGS:
            return (
                f"unknown encoding {encoding or '(empty)'} of placeholder {name}: the encodings are {', '.join(ENCODINGS)}, "
                "as in `{password:url}`"
            )
    if len(encodings) > MAXIMUM_ENCODINGS:
        return (
            f"{len(encodings)} encodings of placeholder {name}: the maximum is {MAXIMUM_ENCODINGS}, as in "
            "`{password:quoted:properties}`"
        )
    return ""


def _unknown(name: str) -> str:
    close = get_close_matches(name.lower().replace("_", "-"), sorted(PLACEHOLDERS), n=1)
    return f"unknown placeholder {name}" + (f" (did you mean `{{{close[0]}}}`?)" if close else "")


def fill(template: str, values: Mapping[str, str]) -> str | None:
    """Parse and fill in one step; see `Template.fill`."""
    return parse_template(template).fill(values)


def known_placeholders() -> str:
    """Return the names of all placeholders, as a part of a sentence."""
    prefixes = ", ".join(prefix for prefix in ENDPOINT_PREFIXES if prefix)
    return f"{', '.join(PER_ENDPOINT)} (each also after {prefixes}), {', '.join(GENERAL)}"


def adds_lines(template: str, filled: str) -> bool:
    """Return whether a value brought a line break, or a NUL, into a text that is read line by line."""
    return "\0" in filled or len(filled.splitlines()) != len(template.splitlines())


def _bytes_in(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
