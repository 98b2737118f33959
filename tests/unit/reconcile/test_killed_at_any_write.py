"""The process is killed at any of its writes, amid whatever people and DigitalOcean do: the next one sets it right."""

import asyncio
import base64
import contextlib
import copy
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dbclusterref.digitalocean.model import User
from dbclusterref.errors import UpstreamUnavailable
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.status import ConditionType
from dbclusterref.secret.state import REVISION, made_for
from tests.support.bench import a_bench, change_spec, set_value
from tests.support.builders import KEY, UID, Body
from tests.support.strategies import BOUNDED, examples

pytestmark = pytest.mark.simulation

SECRETS = ("orders-db", "renamed", "third")
CONFIG_MAPS = ("orders-ca", "other-ca", "third-ca")
TEMPLATES = [{"template": {"x": text}} for text in ("{host}", "{password}", "{unknown}")]
EVIL = base64.b64encode(b"evil").decode()
WRITES = ("apply_secret", "delete_secret", "patch_status", "apply_config_map", "delete_config_map")
SETTLED = 400.0
"""Seconds after which a read that has failed is tried again in any case."""


class Killed(BaseException):
    """The process ends here."""


class KilledAtAnyWrite(RuleBasedStateMachine):
    """One resource, whose Secret and ConfigMap end up as they should, and with nothing beside them but a person's copies."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.bench = a_bench()
        self.bench.upstream.users["late"] = User(name="late", password="pw-late", access_cert="", access_key="")
        self.kubernetes = self.bench.kubernetes
        self.writes_left: int | None = None
        self.lands = False
        self.last_write = ""
        self.unknown: set[str] = set()
        """ConfigMaps that the next process cannot know: the former one was removed, and the status was not written."""
        for call in WRITES:
            setattr(self.kubernetes, call, self._mortal(call))
        self.spec: dict[str, Any] = {}
        self.secret: dict[str, Any] = {}
        self.copies: dict[ObjectKey, Body] = {}
        self.passwords, self.revision = 1, 0

    def teardown(self) -> None:
        try:
            self.runner.run(self._settle())
        finally:
            self.runner.close()

    # what people do

    @rule(name=st.sampled_from(SECRETS))
    def rename(self, name: str) -> None:
        self._set_secret(name=name)

    @rule(change=st.sampled_from([{"deletionPolicy": "Delete"}, {"deletionPolicy": "Retain"}, *TEMPLATES]))
    def change_the_secret(self, change: dict[str, Any]) -> None:
        self._set_secret(**change)

    @rule(name=st.sampled_from([None, *CONFIG_MAPS]))
    def rename_the_config_map(self, name: str | None) -> None:
        self._set(caConfigMap={"name": name} if name else None)

    @rule(change=st.sampled_from([{"user": ""}, {"user": "app"}, {"user": "late"}, {"suspend": True}, {"suspend": False}]))
    def change_the_spec(self, change: dict[str, Any]) -> None:
        self._set(**change)

    @rule(name=st.sampled_from(SECRETS))
    def delete_a_secret(self, name: str) -> None:
        if self._is_ours(name):
            self._in_the_loop(lambda: self.kubernetes.remove_secret(ObjectKey("shop", name)))

    @rule(name=st.sampled_from(SECRETS))
    def tamper_with_a_secret(self, name: str) -> None:
        if self._is_ours(name):
            self._in_the_loop(lambda: self.kubernetes.edit_secret(ObjectKey("shop", name), set_value("password", EVIL)))

    @rule(name=st.sampled_from(SECRETS), copied=st.sampled_from(["copy-1", "copy-2"]))
    def copy_a_secret(self, name: str, copied: str) -> None:
        key = ObjectKey("shop", copied)
        if not self._is_ours(name) or key in self.copies:
            return
        body = copy.deepcopy(self.kubernetes.secrets[ObjectKey("shop", name)])
        body["metadata"] = {
            one: value for one, value in body["metadata"].items() if one in {"namespace", "labels", "annotations"}
        }
        body["metadata"]["name"] = copied
        self._in_the_loop(lambda: self.kubernetes.put_secret(body))
        self.copies[key] = copy.deepcopy(self.kubernetes.secrets[key])

    # what DigitalOcean does

    @rule(is_read=st.booleans())
    def rotate(self, *, is_read: bool) -> None:
        self.passwords += 1
        self.bench.rotate(f"pw-{self.passwords}")
        if is_read:
            self.work(SETTLED)

    @rule(down=st.booleans())
    def is_down(self, down: bool) -> None:  # noqa: FBT001
        self.bench.upstream.trouble = {"*": UpstreamUnavailable("down")} if down else {}

    # what the operator does

    @rule(seconds=st.sampled_from([0.0, 1.0, 11.0, 61.0, SETTLED]))
    def work(self, seconds: float) -> None:
        self.bench.clock.advance(seconds)
        self.runner.run(self._work())

    @rule(writes=st.integers(0, 4), lands=st.booleans(), renamed=st.booleans(), name=st.integers(0, 2))
    def is_killed(self, *, writes: int, lands: bool, renamed: bool, name: int) -> None:
        """The process is killed at one of its writes, and the spec may be changed before the next one runs."""
        self.writes_left, self.lands = writes, lands
        self.bench.clock.advance(SETTLED)
        with contextlib.suppress(Killed):
            self.runner.run(self._work())
        self.writes_left = None
        if renamed:
            self.spec["caConfigMap"] = {"name": CONFIG_MAPS[name]}
            self.rename(SECRETS[name])
        self.restart()

    @rule()
    def restart(self) -> None:
        self.bench = self.bench.restarted()

    @invariant()
    def what_is_ready_is_there(self) -> None:
        body = self.kubernetes.references[KEY]
        if KEY in self.bench.marked or "status" not in body:
            return
        ready = self.bench.status().conditions[ConditionType.READY]
        if ready.status and ready.observed_generation == body["metadata"]["generation"]:
            assert self._key in self.kubernetes.secrets

    @invariant()
    def its_revision_never_goes_back(self) -> None:
        revision = self.bench.status().secret_revision
        assert revision >= self.revision
        self.revision = revision

    @invariant()
    def copies_stay(self) -> None:
        assert {key: self.kubernetes.secrets.get(key) for key in self.copies} == self.copies

    # how that is found out

    async def _settle(self) -> None:
        self.bench.upstream.trouble = {}
        self.secret.pop("template", None)
        self.spec["suspend"] = False
        change_spec(self.bench, **self.spec, secret=self.secret)
        for _ in range(4):
            self.bench.clock.advance(SETTLED)
            await self._work()
        assert (self.bench.ready, self.bench.fresh) == ((True, "Synced"), (True, "Synced"))
        secret, status = self.kubernetes.secrets[self._key], self.bench.status()
        passwords = {"app": f"app-pw-{self.passwords}", "late": "pw-late"}
        assert self.kubernetes.data(self._key)["password"] == passwords.get(self.spec.get("user", ""), f"pw-{self.passwords}")
        assert secret["metadata"]["annotations"][REVISION] == str(status.secret_revision)
        assert status.binding_name == self._key.name
        assert bool(secret["metadata"].get("ownerReferences")) == (self.secret.get("deletionPolicy") != "Retain")
        ours = {key for key, body in self.kubernetes.secrets.items() if made_for(body) == UID}
        assert ours == {self._key}
        wanted = {self.spec["caConfigMap"]["name"]} if self.spec.get("caConfigMap") else set()
        found = {key.name for key in self.kubernetes.config_maps}
        assert wanted <= found <= wanted | self.unknown

    async def _work(self) -> None:
        for _ in range(3):
            await self.bench.reconcile()
            if KEY not in self.bench.marked:
                return

    def _mortal(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self.kubernetes, name)

        async def write(*args: Any, **kwargs: Any) -> Any:
            killed = self.writes_left == 0
            if killed and not self.lands:
                raise self._killed()
            self.writes_left = None if self.writes_left is None else self.writes_left - 1
            answer, self.last_write = await call(*args, **kwargs), name
            if killed:
                raise self._killed()
            return answer

        return write

    def _killed(self) -> Killed:
        if self.last_write == "delete_config_map":
            self.unknown |= {key.name for key in self.kubernetes.config_maps}
        return Killed()

    def _set(self, **members: object) -> None:
        self.spec |= members
        self._in_the_loop(lambda: change_spec(self.bench, **self.spec, secret=self.secret))

    def _set_secret(self, **members: object) -> None:
        self.secret |= members
        self._set()

    def _in_the_loop(self, act: Callable[[], object]) -> None:
        async def run() -> None:
            act()
            await asyncio.sleep(0)

        self.runner.run(run())

    def _is_ours(self, name: str) -> bool:
        return ObjectKey("shop", name) in self.kubernetes.secrets

    @property
    def _key(self) -> ObjectKey:
        return ObjectKey("shop", self.secret.get("name", KEY.name))


TestKilledAtAnyWrite = KilledAtAnyWrite.TestCase
TestKilledAtAnyWrite.settings = settings(BOUNDED, max_examples=examples(200), stateful_step_count=15)
