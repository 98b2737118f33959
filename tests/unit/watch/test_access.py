import logging
from collections.abc import AsyncIterator

import pytest

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.client import references_path
from dbclusterref.timing import Timing
from dbclusterref.watch.access import REJECTED_UNHEALTHY, REJECTED_UNREADY, SECRET_TRIES, Access
from tests.support.fake_time import FakeClock

LOGGER = logging.getLogger("dbclusterref.test")


class Api:
    def __init__(self, namespaces: tuple[str, ...]) -> None:
        self.namespaces = namespaces
        self.denied: set[str] = set()
        self.everywhere: set[str] = set()
        self.trouble: KubernetesError | None = None
        self.refused: set[str] = set()
        self.asked: list[str] = []

    async def may(self, verb: str, *, group: str, resource: str, namespace: str = "") -> bool:
        if self.trouble:
            raise self.trouble
        if group:
            assert (verb, group, resource) == ("list", "dbclusterref.io", "databaseclusterrefs")
            return namespace not in self.refused
        assert resource == "secrets"
        if namespace not in self.namespaces:
            return verb in self.everywhere
        self.asked.append(namespace)
        return verb not in self.denied

    async def latest_version(self, path: str) -> str:
        if path in map(references_path, self.refused):
            raise KubernetesError("forbidden", status=403)
        return "7"

    async def list_secrets(self, namespace: str, *, metadata_alone: bool = False) -> AsyncIterator[object]:  # noqa: ARG002
        if self.trouble:
            raise self.trouble
        yield {}


class Bench:
    def __init__(self, *namespaces: str) -> None:
        names = namespaces or ("",)
        self.api, self.clock = Api(names), FakeClock()
        self.access = Access(self.api, namespaces=names, logger=LOGGER, clock=self.clock)


def forbidden() -> KubernetesError:
    return KubernetesError("databaseclusterrefs is forbidden.", status=403)


# --- credentials


def test_rejected_credentials_are_said_once_and_show_in_readiness_before_health(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    seen = []
    for seconds in (0.0, REJECTED_UNREADY - 1, 2.0, REJECTED_UNHEALTHY):
        bench.clock.advance(seconds)
        bench.access.note_credentials(rejected=True)
        seen.append((len(bench.access.not_ready()), len(bench.access.problems())))
    assert seen == [(0, 0), (0, 0), (1, 0), (1, 1)]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "401" in caplog.text
    assert REJECTED_UNREADY < 60


def test_accepted_credentials_end_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    bench.access.note_credentials(rejected=True)
    bench.clock.advance(1000)
    bench.access.note_credentials(rejected=False)
    bench.access.note_credentials(rejected=False)
    assert not bench.access.is_rejected
    assert bench.access.not_ready() == bench.access.problems() == []
    assert caplog.text.count("accepts the operator's credentials again") == 1


# --- namespaces


async def test_a_namespace_that_is_refused_is_named_and_the_others_are_served(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench("shop", "gone")
    for _ in range(2):
        bench.access.note_refused({"gone": forbidden()})
    assert bench.access.served == ["shop"]
    assert bench.access.refused == 1
    assert bench.access.describe() == ["namespace gone is not watched: databaseclusterrefs is forbidden."]
    assert caplog.text.count("Namespace gone cannot be listed") == 1
    bench.api.refused = {"gone"}
    await bench.access.ask_for_rights()
    assert set(bench.api.asked) == {"shop"}, "the rights in a namespace that is gone say nothing of the others'"


async def test_a_namespace_that_is_back_starts_the_watches_again() -> None:
    bench = Bench("shop", "gone")
    bench.api.refused = {"gone"}
    bench.access.note_refused({"gone": forbidden()})
    assert not await bench.access.has_changed()
    bench.api.refused.clear()
    assert await bench.access.has_changed()
    bench.access.note_refused({})
    assert bench.access.served == ["shop", "gone"]
    assert bench.access.describe() == []


# --- Secrets


def test_secrets_that_cannot_be_listed_are_done_without_after_some_tries(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    error = KubernetesError("unable to decrypt.", status=500)
    assert [bench.access.note_unreadable_secrets(error) for _ in range(SECRET_TRIES)] == [False, False, True]
    assert not bench.access.sees_secrets
    assert bench.access.describe() == ["Secrets cannot be listed: they are repaired at each refresh"]
    assert caplog.text.count("unable to decrypt.") == 1


def test_tries_that_were_followed_by_a_success_do_not_count() -> None:
    bench = Bench()
    error = KubernetesError("busy.", status=503)
    for _ in range(3 * SECRET_TRIES):
        assert not bench.access.note_unreadable_secrets(error)
        bench.access.note_refused({})
    assert bench.access.sees_secrets


async def test_secrets_that_can_be_listed_again_start_the_watches_again() -> None:
    bench = Bench()
    for _ in range(SECRET_TRIES):
        bench.access.note_unreadable_secrets(KubernetesError("no.", status=500))
    bench.api.trouble = KubernetesError("no.", status=500)
    assert not await bench.access.has_changed()
    bench.api.trouble = None
    assert await bench.access.has_changed()
    assert bench.access.sees_secrets
    assert not await bench.access.has_changed()


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_both_rights_are_needed_to_watch_secrets(verb: str, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.api.denied = {verb}
    for _ in range(2):
        await bench.access.ask_for_rights()
    assert not bench.access.sees_secrets
    assert bench.access.describe() == ["Secrets may not be watched: they are repaired at each refresh"]
    assert caplog.text.count("Secrets may not be listed and watched") == 1
    bench.api.denied.clear()
    assert await bench.access.has_changed()
    assert bench.access.sees_secrets


@pytest.mark.parametrize(("status", "raises"), [(403, False), (404, False), (401, True), (500, True), (0, True)])
async def test_without_the_right_to_ask_the_watch_finds_out(status: int, *, raises: bool) -> None:
    bench = Bench()
    bench.api.trouble = KubernetesError("no.", status=status)
    if raises:
        with pytest.raises(KubernetesError):
            await bench.access.ask_for_rights()
    else:
        await bench.access.ask_for_rights()
    assert bench.access.sees_secrets


async def test_it_is_looked_at_again_every_minute() -> None:
    bench = Bench()
    bench.clock.advance(Timing().rights + 1)
    assert bench.access.is_due
    await bench.access.ask_for_rights()
    assert not bench.access.is_due


# --- rights beyond the settings


async def test_rights_in_every_namespace_are_named_once_where_only_some_are_served(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench("shop", "orders")
    bench.api.everywhere = {"get", "list", "delete"}
    bench.api.trouble = KubernetesError("later.", status=500)
    with pytest.raises(KubernetesError):
        await bench.access.ask_for_rights()
    bench.api.trouble = None
    for _ in range(2):
        await bench.access.ask_for_rights()
    (line,) = caplog.messages
    assert line.startswith(
        "The operator may get, list, delete Secrets in every namespace, although --namespaces names only shop"
    )


async def test_rights_that_the_settings_need_are_not_named(caplog: pytest.LogCaptureFixture) -> None:
    for bench in (Bench("shop"), Bench()):
        await bench.access.ask_for_rights()
    assert caplog.messages == []
