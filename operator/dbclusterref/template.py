"""The one template form there is: `{placeholder}` and `{placeholder:url}`; nothing is ever evaluated."""

import re
from collections.abc import Mapping
from urllib.parse import quote

_PIECE = re.compile(r"\{\{|\}\}|\{([a-z-]+)(:url)?\}|[{}]")


class TemplateError(Exception):
    """The template's text is wrong; the message says where and what is allowed."""


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
    """Puts values in; `:url` percent-encodes. None where a placeholder has no value: such a key is left out."""
    if not placeholders_in(template) <= values.keys():
        return None

    def replace(match: re.Match[str]) -> str:
        name, encoded = match.groups()
        if not name:
            return match[0][0]
        return quote(values[name], safe="") if encoded else values[name]

    return _PIECE.sub(replace, template)
