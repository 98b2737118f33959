"""docs/resource.md, from the CustomResourceDefinition. `make chart` writes it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CRD = ROOT / "crds" / "dbclusterref.io_databaseclusterrefs.yaml"
PAGE = ROOT / "docs" / "resource.md"

Schema = dict[str, Any]

_HEAD = """\
# The resource

<!-- Generated from crds/ by `make chart`; a test holds it equal. -->

`{kind}` (`{short}`), API `{group}/{version}`, {scope}. `kubectl explain {short}.spec` says the same on your cluster. The
samples in [deploy/samples](../deploy/samples) can be applied as they are, with your token and your cluster's UUID in them:
[`minimal.yaml`](../deploy/samples/minimal.yaml) is the least, [`full.yaml`](../deploy/samples/full.yaml) has every field.

{description}

"""


def render(crd: Schema) -> str:
    """Return the page."""
    names, (version,) = crd["spec"]["names"], crd["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    head = _HEAD.format(
        kind=names["kind"], short=names["shortNames"][0], group=crd["spec"]["group"], version=version["name"],
        scope=crd["spec"]["scope"].lower(), description=_prose(schema["description"]),
    )  # fmt: skip
    rules = "".join(f"- `{rule['fieldPath'].removeprefix('.')}` {_prose(rule['message'])}\n" for rule in _rules(schema))
    parts = [head, f"Refused by the API server, whatever else is right:\n\n{rules}\n"]
    for name, title in (("spec", "Spec"), ("status", "Status")):
        top = schema["properties"][name]
        parts += [f"## {title}\n\n{_prose(top['description'])}\n", *_fields(top, path=name)]
    parts += ["\n## Columns\n\n`kubectl get dbref`; those marked *wide* with `-o wide`.\n\n| Column | Shows |\n|---|---|\n"]
    columns = version["additionalPrinterColumns"]
    parts += [f"| {one['name']}{', *wide*' if one.get('priority') else ''} | {one['description']} |\n" for one in columns]
    return "".join(parts)


def _fields(schema: Schema, *, path: str) -> Iterator[str]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield f"\n### {here}\n\n{_kind(field, required=name in required)}\n\n{_prose(field['description'])}\n"
        if messages := [_prose(rule["message"]) for rule in _rules(field)]:
            yield "\n" + "".join(f"- {message}\n" for message in messages)
        yield from _fields(field, path=here)
        yield from _fields(field.get("items", {}), path=f"{here}[]")


def _kind(field: Schema, *, required: bool) -> str:
    """The type in words, what it is where nothing is given, and what is allowed."""
    items = field.get("items", {})
    name = field["type"]
    if name == "array":
        name = f"list of {items['type']}s" if items["type"] != "object" else "list"
    elif "additionalProperties" in field:
        name = f"map of {field['additionalProperties']['type']}s"
    elif field.get("format") == "date-time":
        name = "time"
    words = [name.capitalize() + (", required" if required else "")]
    if choices := field.get("enum") or items.get("enum"):
        words.append("one of " * ("enum" in field) + ", ".join(f"`{one}`" for one in choices))
    if field.get("default") not in (None, {}):
        words.append(f"default `{_literal(field['default'])}`")
    return "; ".join(words) + "."


def _literal(value: Any) -> str:  # noqa: ANN401 - as YAML has it
    return f"[{', '.join(value)}]" if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)


def _rules(field: Schema) -> list[dict[str, str]]:
    """The rules with a message of their own; those that a pattern or an item repeats are named once."""
    return list({rule["message"]: rule for rule in field.get("x-kubernetes-validations", ())}.values())


def _prose(text: str) -> str:
    """The text with what Markdown would take for markup escaped, code spans apart."""
    text = text.strip()
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<>\[\]])", r"\\\1", part) for part in parts)
