from typing import Any

import pytest

from dbclusterref.resource.objects import MANAGED_BY
from dbclusterref.secret.ca_config_map import is_of, render_ca_config_map, was_left_by
from dbclusterref.secret.rendering import render_secret
from dbclusterref.secret.state import DesiredSecret
from tests.support.builders import PEM, Body, a_reference, a_snapshot, applied

NAMED: Body = {"caConfigMap": {"name": "orders-ca"}}
RETAINED: Body = {**NAMED, "secret": {"deletionPolicy": "Retain"}}


def live(spec: Body | None = None) -> dict[str, Any]:
    return applied(render_ca_config_map(a_reference(spec or NAMED), PEM).manifest(precondition={"uid": "1"}))


def rendered(spec: Body) -> DesiredSecret:
    return render_secret(a_reference(spec), a_snapshot())


@pytest.mark.parametrize("spec", [NAMED, RETAINED, {**NAMED, "secret": {"labels": {"team": "shop"}}}])
def test_it_has_the_secrets_labels_and_owner_and_the_annotations_that_say_whose_it_is(spec: Body) -> None:
    made, secret = render_ca_config_map(a_reference(spec), PEM), rendered(spec)
    assert (made.labels, made.owner) == (secret.labels, secret.owner)
    assert made.annotations.items() <= secret.annotations.items()
    assert made.manifest(precondition={})["data"] == {"ca.crt": PEM.decode()}


@pytest.mark.parametrize("spec", [NAMED, RETAINED])
def test_what_was_written_is_met(spec: Body) -> None:
    assert render_ca_config_map(a_reference(spec), PEM).is_met_by(live(spec))


def without(body: dict[str, Any], *path: str) -> dict[str, Any]:
    at = body
    for name in path[:-1]:
        at = at[name]
    del at[path[-1]]
    return body


@pytest.mark.parametrize(
    "path",
    [
        ("data",),
        ("data", "ca.crt"),
        ("metadata", "labels"),
        ("metadata", "labels", MANAGED_BY),
        ("metadata", "annotations", "dbclusterref.io/reference-uid"),
        ("metadata", "ownerReferences"),
    ],
)
def test_whatever_is_missing_is_noticed(path: tuple[str, ...]) -> None:
    assert not render_ca_config_map(a_reference(NAMED), PEM).is_met_by(without(live(), *path))


def test_another_ca_and_an_owner_that_is_to_go_are_noticed() -> None:
    assert not render_ca_config_map(a_reference(NAMED), PEM + b"x").is_met_by(live())
    assert not render_ca_config_map(a_reference(RETAINED), PEM).is_met_by(live())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"labels": {"team": "shop", "tier": "db"}}, {"labels": {"team": "shop"}}),
        ({"labels": {"team": "shop"}}, {}),
        ({"deletionPolicy": "Retain"}, {}),
    ],
)
def test_what_an_earlier_spec_had_written_is_noticed(before: Body, after: Body) -> None:
    body = live({**NAMED, "secret": before})
    wanted = render_ca_config_map(a_reference({**NAMED, "secret": after}), PEM)
    body["metadata"]["ownerReferences"] = [dict(wanted.owner or {})]
    assert not wanted.is_met_by(body)


def test_what_others_own_is_theirs() -> None:
    body, theirs = (
        live(),
        {"apiVersion": "dbclusterref.io/v1alpha1", "kind": "DatabaseClusterRef", "name": "x", "uid": "theirs"},
    )
    body["metadata"]["labels"]["theirs"] = body["metadata"]["annotations"]["theirs"] = "x"
    body["metadata"]["ownerReferences"].append(theirs)
    assert render_ca_config_map(a_reference(NAMED), PEM).is_met_by(body)


def test_it_is_this_resources_by_its_uid_alone() -> None:
    reference = a_reference(NAMED)
    assert is_of(live(), reference)
    assert is_of(without(live(), "metadata", "annotations"), reference)
    assert is_of(without(live(), "metadata", "ownerReferences"), reference)
    bare = without(without(live(), "metadata", "annotations"), "metadata", "ownerReferences")
    assert not is_of(bare, reference)
    assert not was_left_by(bare, reference)


def test_one_that_was_left_is_of_this_name_and_cluster_and_has_no_owner() -> None:
    body = live(RETAINED)
    body["metadata"]["annotations"]["dbclusterref.io/reference-uid"] = "former"
    assert not is_of(body, a_reference(NAMED))
    assert was_left_by(body, a_reference(NAMED))
    body["metadata"]["annotations"]["dbclusterref.io/cluster-uuid"] = "another"
    assert not was_left_by(body, a_reference(NAMED))
    owned = live()
    assert not was_left_by(owned, a_reference(NAMED))


def test_the_secret_does_not_change_with_it() -> None:
    assert rendered(NAMED) == rendered({})
