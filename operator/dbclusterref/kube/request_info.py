"""A request to the Kubernetes API as RBAC and the audit log name it: its verb and its resource. Pure."""

from collections.abc import Mapping

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
OTHER = "other"
"""The resource of a request that is for none: discovery, for instance."""


def request_info(method: str, path: str, query: Mapping[str, str]) -> tuple[str, str]:
    """Return verb and resource, subresource included. Names of objects and namespaces are left out."""
    parts = path.strip("/").split("/")
    # /api/v1/… or /apis/GROUP/VERSION/…, below the path of the server's URL where it has one.
    start = next((at for at, part in enumerate(parts) if part in {"api", "apis"}), len(parts))
    parts = parts[start + (2 if parts[start:][:1] == ["api"] else 3) :]
    if parts[:1] == ["namespaces"] and len(parts) > 2:  # noqa: PLR2004 - a namespace on its own is a resource, too
        parts = parts[2:]
    resource, name, subresource = ([*parts, "", "", ""])[:3]
    verb = _VERBS.get(method, "get")
    if verb == "get" and resource and not name:
        verb = "watch" if query.get("watch") in {"true", "1"} else "list"
    return verb, (f"{resource}/{subresource}" if subresource else resource) or OTHER
