"""The control surface: what no customer can do to the provider. JSON under `/control`; no sockets here."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from sandbox.digitalocean import cluster_orders, service_orders
from sandbox.digitalocean.jsontypes import Json
from sandbox.digitalocean.orders import Order
from sandbox.digitalocean.parsing import BadRequestError, members
from sandbox.digitalocean.replies import Reply, json_reply
from sandbox.digitalocean.simulator import Simulator
from sandbox.digitalocean.verbs import DuplicateItemError, UnknownItemError

_ROUTES: Final = tuple(
    (method, re.compile("/control" + pattern), handler)
    for method, pattern, handler in (*cluster_orders.ROUTES, *service_orders.ROUTES)
)


def obey(simulator: Simulator, method: str, path: str, *, query: Mapping[str, str], body: Json) -> Reply:
    """Obey one request. 404 for what is not there, 409 for a name that is taken, 422 for what cannot be done."""
    for expected, pattern, handler in _ROUTES:
        match = pattern.fullmatch(path)
        if match is None or method != expected:
            continue
        where = {name: unquote(value) for name, value in match.groupdict().items()}
        try:
            order = Order(simulator=simulator, where=where, query=query, body=members("the body", body))
            return json_reply(handler(order))
        except UnknownItemError as error:
            return json_reply({"message": f"there is no {error.args[0]}"}, status=404)
        except DuplicateItemError as error:
            return json_reply({"message": f"{error.args[0]} is there already"}, status=409)
        except BadRequestError as error:
            return json_reply({"message": str(error)}, status=422)
    return json_reply({"message": f"there is no {method} {path}"}, status=404)
