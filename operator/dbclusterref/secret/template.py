"""The one template form there is: `{placeholder}`, `{placeholder:url}` and the like; nothing is ever evaluated."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

_QUOTED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _for_properties(text: str) -> str:
    r"""Java reads a properties file as Latin-1 and takes `\` for its own: UTF-16 units, written like `\u00e9`."""
    units = text.encode("utf-16-be")
    characters = (int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2))
    return "".join(chr(unit) if 0x20 < unit < 0x7F and unit != 0x5C else f"\\u{unit:04x}" for unit in characters)  # noqa: PLR2004


ENCODINGS: Mapping[str, Callable[[str], str]] = {
    "url": lambda text: quote(text, safe=""),
    "quoted": lambda text: text.translate(_QUOTED),
    "properties": _for_properties,
}
"""`url`: percent-encoding; `quoted`: for between double quotes (option files, JAAS); `properties`: a Java properties value."""

_PIECE = re.compile(r"\{\{|\}\}|\{([a-z-]+)((?::(?:" + "|".join(ENCODINGS) + r"))*)\}|[{}]")


class TemplateError(Exception):
    """The template's text is wrong; the message says where and what is allowed."""


@dataclass(frozen=True, slots=True)
class _Template:
    """A template taken apart: each placeholder with the text before it and its encodings, then the text that ends it."""

    pieces: tuple[tuple[str, str, tuple[Callable[[str], str], ...]], ...]
    end: str
    names: frozenset[str]


@lru_cache(maxsize=4096)
def _taken_apart(template: str) -> _Template:
    pieces, text, done = [], "", 0
    for match in _PIECE.finditer(template):
        text += template[done : match.start()]
        done = match.end()
        if match[1]:
            pieces.append((text, match[1], tuple(ENCODINGS[name] for name in match[2].split(":")[1:])))
            text = ""
        elif match[0] in "{}":
            raise TemplateError(
                f"a stray {match[0]!r} at character {match.start() + 1}; a placeholder looks like {{host}} or "
                "{{password:url}}, and a brace itself is written twice"
            )
        else:
            text += match[0][0]
    return _Template(tuple(pieces), text + template[done:], frozenset(name for _, name, _ in pieces))


def placeholders_in(template: str) -> frozenset[str]:
    """Names the placeholders a template uses. Raises TemplateError where its text is no template."""
    return _taken_apart(template).names


def fill(template: str, values: Mapping[str, str]) -> str | None:
    """Puts values in, encoded as asked, from left to right. None where a placeholder has no value: such a key is left out."""
    taken_apart = _taken_apart(template)
    if not taken_apart.names <= values.keys():
        return None
    filled = ""
    for text, name, encodings in taken_apart.pieces:
        value = values[name]
        for encode in encodings:
            value = encode(value)
        filled += text + value
    return filled + taken_apart.end
