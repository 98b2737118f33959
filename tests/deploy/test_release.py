"""What a release checks and says (tools/release.sh), and the workflow that calls it, as far as it can be tried here."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW_TEXT = (ROOT / ".github" / "workflows" / "release.yaml").read_text()
WORKFLOW: dict[str, Any] = yaml.safe_load(WORKFLOW_TEXT)
CRD = "crds/dbclusterref.io_databaseclusterrefs.yaml"
FILES = ("pyproject.toml", "charts/dbclusterref/Chart.yaml", "deploy/base/kustomization.yaml", CRD, "tools/release.sh")
CHANGELOG = """# Changelog

## 0.1.0 (2027-01-02)

The first version.

- Does its job.

## 0.0.1

Before.
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """This checkout, made ready for the release of 0.1.0."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / name).read_text()
        (tmp_path / name).write_text(
            re.sub(r'(?m)^(version[ =:"]+|appVersion: v|.*newTag: v)[0-9][-.0-9a-z]*', r"\g<1>0.1.0", text)
        )
    shutil.copymode(ROOT / "tools" / "release.sh", tmp_path / "tools" / "release.sh")
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    kept = tmp_path / "tests" / "deploy" / "released"
    kept.mkdir(parents=True)
    shutil.copy(tmp_path / CRD, kept / "0.1.0.yaml")
    return tmp_path


def release(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([checkout / "tools" / "release.sh", *arguments], capture_output=True, text=True, check=False)


def test_a_checkout_that_is_ready_passes(checkout: Path) -> None:
    done = release(checkout, "verify", "v0.1.0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"', "Tag v0.2.0, or change the version"),
        ("charts/dbclusterref/Chart.yaml", "version: 0.1.0", "version: 0.0.9", "Run make chart"),
        ("deploy/base/kustomization.yaml", "v0.1.0", "v0.1.01", "Run make chart"),
        ("CHANGELOG.md", "(2027-01-02)", "(unreleased)", "Write the date there"),
        ("CHANGELOG.md", "## 0.1.0", "## 0.1.00", "Write a section for 0.1.0"),
        (CRD, "scope: Namespaced", "scope: Namespaced ", "Run: cp crds/"),
    ],
)
def test_whatever_disagrees_stops_it_with_a_remedy(checkout: Path, file: str, old: str, new: str, words: str) -> None:
    text = (checkout / file).read_text()
    assert old in text
    (checkout / file).write_text(text.replace(old, new, 1))
    done = release(checkout, "verify", "v0.1.0")
    assert done.returncode == 1
    assert words in done.stderr


def test_the_notes_are_the_section_of_the_version(checkout: Path) -> None:
    assert release(checkout, "notes", "v0.1.0").stdout.strip() == "The first version.\n\n- Does its job."
    assert release(checkout, "notes", "v0.0.1").stdout.strip() == "Before."
    missing = release(checkout, "notes", "v0.2.0")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "no section for 0.2.0" in missing.stderr


def test_every_action_is_pinned_by_commit_and_says_which_version_that_is() -> None:
    uses = re.findall(r"uses: (.*)", WORKFLOW_TEXT)
    assert uses
    assert [line for line in uses if not re.fullmatch(r"[-\w]+/[-\w]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


def test_no_job_has_rights_that_it_does_not_name() -> None:
    assert WORKFLOW["permissions"] == {}
    assert [name for name, job in WORKFLOW["jobs"].items() if not job.get("permissions")] == []
    assert WORKFLOW["jobs"]["test"]["permissions"] == {"contents": "read"}


def test_nothing_is_published_before_the_tests_have_passed() -> None:
    needs = {name: job.get("needs") for name, job in WORKFLOW["jobs"].items()}
    assert needs == {"test": None, "image": "test", "release": "image"}


def test_it_publishes_what_the_manifests_and_the_chart_name() -> None:
    values = yaml.safe_load((ROOT / "charts" / "dbclusterref" / "values.yaml").read_text())
    assert WORKFLOW["env"]["IMAGE"] == values["image"]["repository"]
    install = (ROOT / "docs" / "install.md").read_text()
    assert f"oci://{WORKFLOW['env']['CHARTS']}/dbclusterref " in install


def test_it_is_built_from_the_digest_of_the_base_that_the_dockerfile_names(checkout: Path) -> None:
    assert release(checkout, "base", str(ROOT / "Dockerfile")).stdout == "docker.io/library/python:3.13-slim-trixie\n"
    steps = WORKFLOW["jobs"]["image"]["steps"]
    (look_up,) = (step for step in steps if step.get("id") == "base")
    (build,) = (step for step in steps if step.get("id") == "build")
    assert "tools/release.sh base Dockerfile" in look_up["run"]
    assert "PYTHON_IMAGE=${{ steps.base.outputs.image }}" in build["with"]["build-args"].splitlines()
    assert steps.index(look_up) < steps.index(build)


@pytest.mark.parametrize(
    ("line", "words"),
    [("FROM scratch", "its base is not known"), ("ARG PYTHON_IMAGE=python:3@sha256:00", "Name the tag alone")],
)
def test_a_base_that_cannot_be_looked_up_stops_it(checkout: Path, tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "Dockerfile").write_text(f"{line}\n")
    done = release(checkout, "base", str(tmp_path / "Dockerfile"))
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
