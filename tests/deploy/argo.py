"""Argo CD's Lua, run as Argo CD runs it: version 5.1, with the object as the global `obj`."""

from typing import Any, cast

import yaml
from lupa import lua51

Json = dict[str, Any]


def run(script: str, resource: Json) -> Any:
    """Return what a script makes of an object, tables as dictionaries."""
    runtime = lua51.LuaRuntime(unpack_returned_tuples=True)
    runtime.globals().obj = runtime.table_from(resource, recursive=True)
    return _plain(runtime.execute(script))


def actions_offered(actions: str, resource: Json) -> set[str]:
    """Return the actions that the menu offers for an object."""
    found = run(yaml.safe_load(actions)["discovery.lua"], resource)
    return {name for name, action in found.items() if not action["disabled"]}


def act(actions: str, name: str, resource: Json) -> Json:
    """Return the object as an action leaves it, for an update."""
    assert name in actions_offered(actions, resource)
    (script,) = (one["action.lua"] for one in yaml.safe_load(actions)["definitions"] if one["name"] == name)
    return cast("Json", run(script, resource))


def _plain(value: Any) -> Any:
    if lua51.lua_type(value) != "table":
        return value
    keys = list(value.keys())
    if keys and keys == list(range(1, len(keys) + 1)):
        return [_plain(item) for item in value.values()]
    return {key: _plain(item) for key, item in value.items()}
