"""The one template form there is: `{placeholder}`, `{placeholder:url}` and the like; nothing is ever evaluated."""

import re
from collections.abc import Callable, Mapping
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


@lru_cache(maxsize=4096)
def placeholders_in(template: str) -> frozenset[str]:
    """Names the placeholders a template uses. Raises TemplateError where its text is no template."""
    names: set[str] = set()
    for match in _PIECE.finditer(template):
        if match[1]:
            names.add(match[1])
        elif match[0] in "{}":
            raise TemplateError(
                f"a stray {match[0]!r} at character {match.start() + 1}; a placeholder looks like {{host}} or "
                "{{password:url}}, and a brace itself is written twice"
            )
    return frozenset(names)


def fill(template: str, values: Mapping[str, str]) -> str | None:
    """Puts values in, encoded as asked, from left to right. None where a placeholder has no value: such a key is left out."""
    if not placeholders_in(template) <= values.keys():
        return None

    def replace(match: re.Match[str]) -> str:
        name, encodings = match.groups()
        if not name:
            return match[0][0]
        value = values[name]
        for encoding in encodings.split(":")[1:]:
            value = ENCODINGS[encoding](value)
        return value

    return _PIECE.sub(replace, template)
