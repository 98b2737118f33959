"""The CRD only ever adds to that of the last release, so that an operator can be upgraded and rolled back (docs/upgrade.md)."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.crd_compatibility import find_breaks

ROOT = Path(__file__).parents[2]
CRD_FILE = ROOT / "crds" / "dbclusterref.io_databaseclusterrefs.yaml"
RELEASED = Path(__file__).parent / "released"
CRD = yaml.safe_load(CRD_FILE.read_text())

Json = dict[str, Any]
Change = Callable[[Json], None]


def released_in(changelog: str) -> list[str]:
    """The versions with a heading, but for one that is being worked on, which says `(unreleased)`."""
    return re.findall(r"^## (\S+)(?!\S| \(unreleased\))", changelog, re.MULTILINE)


def released_versions() -> list[str]:
    return released_in((ROOT / "CHANGELOG.md").read_text())


def test_the_crd_of_every_release_is_kept() -> None:
    kept = {path.stem for path in RELEASED.glob("*.yaml")}
    assert kept == set(released_versions()), (
        f"with a release: cp {CRD_FILE.relative_to(ROOT)} tests/deploy/released/VERSION.yaml"
    )


def test_the_crd_accepts_whatever_a_released_one_did() -> None:
    for version in released_versions():
        assert find_breaks(yaml.safe_load((RELEASED / f"{version}.yaml").read_text()), CRD) == [], version


def test_an_unreleased_version_is_not_taken_for_a_release() -> None:
    changelog = "# Changelog\n\n## 0.3.10 (unreleased)\n\n## 0.2.1 (2027-01-02)\n\n## 0.2.0\n"
    assert released_in(changelog) == ["0.2.1", "0.2.0"]


# --- the comparison itself: each mistake is found, by name


def spec(crd: Json) -> Json:
    found: Json = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def prop(crd: Json, *names: str) -> Json:
    found = spec(crd)
    for name in names:
        found = found["properties"][name]
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda crd: crd["spec"]["versions"][0].update(name="v1beta1"), "version v1alpha1 is gone"),
        (lambda crd: crd["spec"]["versions"][0].update(served=False), "no longer served"),
        (lambda crd: crd["spec"]["versions"][0].update(storage=False), "needs a migration"),
        (lambda crd: crd["spec"]["versions"][0].pop("subresources"), "no subresource status"),
        (lambda crd: crd["spec"].update(scope="Cluster"), "spec.scope changed"),
        (lambda crd: crd["spec"]["names"].update(shortNames=[]), "short name dbref is gone"),
        (lambda crd: spec(crd)["properties"].pop("pool"), "spec.pool is gone"),
        (lambda crd: prop(crd, "pool").update(type="integer"), "spec.pool: type was 'string'"),
        (lambda crd: prop(crd, "suspend").update(default=True), "spec.suspend: default was False"),
        (lambda crd: prop(crd, "user").update(pattern="^a"), "spec.user: pattern"),
        (lambda crd: prop(crd, "user").update(maxLength=3), "spec.user: maxLength"),
        (lambda crd: prop(crd, "user").update(minLength=9), "spec.user: minLength"),
        (lambda crd: spec(crd).update(required=["clusterUUID", "user"]), "spec.user is required now"),
        (lambda crd: prop(crd, "secret", "deletionPolicy").update(enum=["Delete"]), "Retain is no longer allowed"),
        (lambda crd: prop(crd, "user").update(enum=["app"]), "any value is no longer allowed"),
        (
            lambda crd: prop(crd, "secret", "labels").update({"x-kubernetes-map-type": "atomic"}),
            "x-kubernetes-map-type was None",
        ),
        (
            lambda crd: prop(crd, "user").update({"x-kubernetes-validations": [{"rule": "self != 'x'", "message": "No x."}]}),
            "new rule: self != 'x'",
        ),
    ],
)
def test_a_change_that_breaks_is_found(change: Change, words: str) -> None:
    changed = copy.deepcopy(CRD)
    change(changed)
    breaks = find_breaks(CRD, changed)
    assert len(breaks) == 1
    assert words in breaks[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda crd: crd["metadata"].update(annotations={"note": "x"}),
        lambda crd: spec(crd)["properties"].update(later={"type": "string"}),
        lambda crd: prop(crd, "secret", "deletionPolicy")["enum"].append("Orphan"),
        lambda crd: prop(crd, "user").update(description="Other words."),
        lambda crd: crd["spec"]["versions"][0]["additionalPrinterColumns"].pop(),
        lambda crd: spec(crd)["x-kubernetes-validations"].clear(),
    ],
)
def test_a_change_that_only_adds_is_accepted(change: Change) -> None:
    changed = copy.deepcopy(CRD)
    change(changed)
    assert find_breaks(CRD, changed) == []
