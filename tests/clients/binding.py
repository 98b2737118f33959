"""What a pod gets of a Secret: the files that kubelet writes, and the environment that `envFrom` makes."""

import asyncio
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import httpx

from dbclusterref.clock import system_clock
from dbclusterref.digitalocean.account import Account
from dbclusterref.digitalocean.client import DigitalOcean
from dbclusterref.digitalocean.demand import Routine
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.resource.reference import Reference
from dbclusterref.secret.rendering import render_secret
from sandbox.digitalocean import DEFAULT_TOKEN
from sandbox.digitalocean.jsontypes import Json
from sandbox.servers import find_program

MountedData = Mapping[str, bytes]


class Binding:
    """A Secret as one container sees it, mounted at `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._data: MountedData = {}
        self._writes = 0

    def project(self, data: MountedData) -> "Binding":
        """Writes the files as kubelet does: all at once, by one symbolic link that is exchanged."""
        self._data = data
        self._writes += 1
        self.directory.mkdir(parents=True, exist_ok=True)
        former = list(self.directory.glob("..20*"))
        version = self.directory / f"..20{self._writes:02}"
        version.mkdir()
        for key, value in data.items():
            (version / key).write_bytes(value)
        link = self.directory / "..new"
        link.symlink_to(version.name)
        link.rename(self.directory / "..data")
        for path in self.directory.iterdir():
            if not path.name.startswith("..") and path.name not in data:
                path.unlink()
        for key in data:
            if not (self.directory / key).is_symlink():
                (self.directory / key).symlink_to(f"..data/{key}")
        for path in former:
            shutil.rmtree(path)
        return self

    def file(self, key: str) -> str:
        """A mounted file's text."""
        return (self.directory / key).read_bytes().decode()

    def has(self, key: str) -> bool:
        return (self.directory / key).exists()

    @property
    def environ(self) -> dict[str, str]:
        """Every key is a variable: kubelet takes dots and dashes in names too."""
        return {key: value.decode() for key, value in self._data.items()}

    def run(self, *command: str | Path, environ: Mapping[str, str] | None = None, check: bool = True, text: str = "") -> str:
        """Runs a client with the Secret's variables and hardly any others; returns what it printed."""
        done = self.attempt(*command, environ=environ, text=text)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def attempt(
        self, *command: str | Path, environ: Mapping[str, str] | None = None, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        name, *arguments = command
        program = name if isinstance(name, Path) else find_program(name)
        return subprocess.run(
            [program, *arguments],
            input=text,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=60,
            env={**bare_environ(self.directory), **(self.environ if environ is None else environ)},
        )

    def shell(self, line: str) -> str:
        """Runs a line as a container's shell does, in the mounted directory."""
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=60,
            cwd=self.directory,
            env={**bare_environ(self.directory), "PATH": os.environ["PATH"]},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def python(self, program: str, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
        """Runs a Python program in a process whose environment is the Secret."""
        return self.run(Path(sys.executable), "-I", "-c", program, *arguments, environ=environ)


def bare_environ(home: Path) -> dict[str, str]:
    """No PG*, no MYSQL_*, nothing of the developer's."""
    return {"HOME": str(home), "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}


def make_reference(cluster: str, spec: Mapping[str, object]) -> Reference:
    metadata = {"name": "orders-db", "namespace": "shop", "uid": "5f0c1d8e-0000-4000-8000-000000000001", "generation": 1}
    return Reference.from_body(
        {"metadata": metadata, "spec": {"clusterUUID": cluster, "apiTokenSecretRef": {"name": "do-token"}, **spec}}
    )


def read_secret(url: str, cluster: str, spec: Mapping[str, object]) -> MountedData:
    """The Secret's data, read over HTTP and rendered by the operator's own code."""
    reference = make_reference(cluster, spec)
    return render_secret(reference, asyncio.run(_read(url, reference))).data


async def _read(url: str, reference: Reference) -> Snapshot:
    async def no_ca() -> bytes:
        return b""

    async with httpx.AsyncClient(trust_env=False) as client:
        upstream = DigitalOcean(client, base_url=url)
        clock = system_clock(random.random)
        account = Account(Reader(DEFAULT_TOKEN, upstream=upstream, clock=clock))
        snapshot = await account.read(reference, wanted=Routine(clock.monotonic()), known_ca=no_ca)
        assert isinstance(snapshot, Snapshot)
        return snapshot


class Listens(Protocol):
    """A server's address."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


def at(server: Listens, *kinds: str) -> dict[str, Mapping[str, Json]]:
    """Connections that lead to a server of ours."""
    return {kind: {"host": server.host, "port": server.port} for kind in kinds}
