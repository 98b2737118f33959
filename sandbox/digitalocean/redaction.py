"""How a reply hides its credentials from a token that may not view them."""

import re
from dataclasses import dataclass
from typing import Final

from sandbox.digitalocean.jsontypes import JsonObject
from sandbox.digitalocean.model import Cluster, Redaction

_USERINFO: Final = re.compile(r"(?<=://)([^:@/]*):[^@]*(?=@)")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a token gets to see."""

    credentials: bool = True
    tags: bool = True
    project: bool = True
    vpc: bool = True
    redaction: Redaction = Redaction.EMPTY
    redact_user: bool = False
    reveal_all: bool = False
    """As create and reset replies do, also where a GET never shows the default user's password."""


def style_for(cluster: Cluster, view: View, *, default_user: bool) -> Redaction | None:
    """How to hide a password, or None to show it."""
    if cluster.redaction is not None:
        return cluster.redaction
    if not view.credentials:
        return view.redaction
    if default_user and not cluster.facts.password_in_get and not view.reveal_all:
        return view.redaction
    return None


def redacted(reply: JsonObject, *names: str, style: Redaction) -> JsonObject:
    """The reply with these members hidden, where it has them."""
    if style is Redaction.ABSENT:
        return {name: value for name, value in reply.items() if name not in names}
    blank = "" if style is Redaction.EMPTY else None
    return {name: blank if name in names else value for name, value in reply.items()}


def redacted_connection(reply: JsonObject, *, style: Redaction, redact_user: bool) -> JsonObject:
    """A connection without its password; its URI keeps the colon before the empty place."""
    uri = reply.get("uri")
    if isinstance(uri, str):
        reply = reply | {"uri": _USERINFO.sub(":" if redact_user else r"\1:", uri)}
    names = ("password", "user") if redact_user else ("password",)
    return redacted(reply, *names, style=style)
