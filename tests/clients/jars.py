"""The Java side of the tests: jars that Maven brings once into the user's cache, compared with their pinned hashes."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from sandbox.binaries.cache import Cache
from sandbox.servers import find_program

SOURCES = Path(__file__).parent / "java"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def jars() -> Path:
    """The directory that holds them. MissingProgramError without Maven, AssertionError where a jar is not the pinned one."""
    pinned = (SOURCES / "jars.sha256").read_text()
    cache = Cache(root=Cache.of_user(os.environ).root.parent / "jars")
    key = hashlib.sha256(pinned.encode()).hexdigest()[:16]
    final = cache.root / key
    with cache.locked(key, say=print):
        if not final.exists():
            with cache.staged(final) as stage:
                _bring(stage)
                _compare(stage, pinned)
    return final


def compile_clients(classpath: Path, into: Path) -> Path:
    command = [find_program("javac"), "-cp", f"{classpath}/*", "-d", into, SOURCES / "Clients.java"]
    subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL)
    return into


def _bring(stage: Path) -> None:
    pom = stage / "pom.xml"
    shutil.copy(SOURCES / "pom.xml", pom)
    done = subprocess.run(
        [find_program("mvn"), "-q", "-B", "-C", "-f", pom, PLUGIN, f"-DoutputDirectory={stage}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"Maven could not bring the jars: {done.stdout[-2000:]}"
    pom.unlink()


def _compare(stage: Path, pinned: str) -> None:
    expected = {name: digest for digest, name in (line.split() for line in pinned.splitlines())}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in stage.iterdir()}
    assert found == expected, f"not the pinned jars: {sorted(found.items() ^ expected.items())}"
