"""Whether a CustomResourceDefinition only adds to a former one: what was valid stays valid and keeps its meaning."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]

# Limits, and in which direction each may move.
LOOSER_UPWARDS = ("maximum", "maxLength", "maxItems", "maxProperties")
LOOSER_DOWNWARDS = ("minimum", "minLength", "minItems", "minProperties")
# What may neither come nor change: each refuses what was valid, or gives what was written another meaning.
FIXED = (
    "type", "format", "pattern", "default", "nullable", "uniqueItems", "multipleOf", "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys", "x-kubernetes-map-type", "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
)  # fmt: skip


def find_breaks(old: Json, new: Json) -> list[str]:
    """A sentence for each way in which `new` refuses or changes what `old` accepted; empty if there is none."""
    return list(_compare(old, new))


def _compare(old: Json, new: Json) -> Iterator[str]:
    for path in (("group",), ("scope",), ("names", "kind"), ("names", "plural")):
        if _at(old["spec"], path) != _at(new["spec"], path):
            yield f"spec.{'.'.join(path)} changed"
    for name in set(old["spec"]["names"].get("shortNames", ())) - set(new["spec"]["names"].get("shortNames", ())):
        yield f"short name {name} is gone"
    versions = {version["name"]: version for version in new["spec"]["versions"]}
    for version in old["spec"]["versions"]:
        name = version["name"]
        if name not in versions:
            yield f"version {name} is gone"
        elif version["served"] and not versions[name]["served"]:
            yield f"version {name} is no longer served"
        else:
            if version["storage"] and not versions[name]["storage"]:
                yield f"version {name} is no longer the one stored: that needs a migration"
            for subresource in version.get("subresources", {}).keys() - versions[name].get("subresources", {}).keys():
                yield f"version {name} has no subresource {subresource} any more"
            schemas = (one["schema"]["openAPIV3Schema"] for one in (version, versions[name]))
            yield from _compare_schemas(*schemas, path=name)


def _at(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = value[name]
    return value


def _compare_schemas(old: Json, new: Json, *, path: str) -> Iterator[str]:
    for keyword in FIXED:
        if old.get(keyword) != new.get(keyword):
            yield f"{path}: {keyword} was {old.get(keyword)!r} and is {new.get(keyword)!r}"
    if _list_type(old) != _list_type(new):
        yield f"{path}: x-kubernetes-list-type was {_list_type(old)} and is {_list_type(new)}"
    yield from _compare_limits(old, new, path=path)
    if "enum" in new and (lost := [value for value in old.get("enum", ["any value"]) if value not in new["enum"]]):
        yield f"{path}: {', '.join(map(str, lost))} is no longer allowed"
    for name in set(new.get("required", ())) - set(old.get("required", ())):
        if "default" not in new["properties"][name]:
            yield f"{path}.{name} is required now"
    known = {rule["rule"] for rule in old.get("x-kubernetes-validations", ())}
    for rule in new.get("x-kubernetes-validations", ()):
        if rule["rule"] not in known:
            yield f"{path}: new rule: {rule['rule']}"
    yield from _compare_children(old, new, path=path)


def _compare_limits(old: Json, new: Json, *, path: str) -> Iterator[str]:
    for keywords, sign in ((LOOSER_UPWARDS, 1), (LOOSER_DOWNWARDS, -1)):
        for keyword in keywords:
            if keyword in new and (keyword not in old or sign * new[keyword] < sign * old[keyword]):
                yield f"{path}: {keyword} was {old.get(keyword)} and is {new[keyword]}"


def _compare_children(old: Json, new: Json, *, path: str) -> Iterator[str]:
    for name, schema in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{path}.{name} is gone"
        else:
            yield from _compare_schemas(schema, new["properties"][name], path=f"{path}.{name}")
    for keyword, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(old.get(keyword), Mapping) and isinstance(new.get(keyword), Mapping):
            yield from _compare_schemas(old[keyword], new[keyword], path=path + suffix)
        elif keyword in old and old[keyword] != new.get(keyword):
            yield f"{path}: {keyword} changed"


def _list_type(schema: Json) -> str:
    return str(schema.get("x-kubernetes-list-type", "atomic"))
