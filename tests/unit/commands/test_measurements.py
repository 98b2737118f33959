import re
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from dbclusterref.commands import measurements
from dbclusterref.commands.measurements import Measurements, not_after
from dbclusterref.digitalocean.account import Account
from dbclusterref.digitalocean.accounts import Accounts
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.snapshot import PackedSnapshot, Snapshot
from dbclusterref.digitalocean.traffic import Traffic
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.entry import Entry
from dbclusterref.reconcile.namespace_limit import NamespaceLimit
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey
from tests.support.builders import OTHER_UUID, PEM, TOKEN, UUID, a_cluster, reference_body
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_time import FakeClock, a_clock

SYNCED = {"Ready": ("True", "Synced"), "Fresh": ("True", "Synced"), "Stalled": ("False", "Synced")}
DOWN = SYNCED | {"Fresh": ("False", "UpstreamUnavailable")}
STALLED = dict.fromkeys(("Ready", "Fresh"), ("False", "TokenInvalid")) | {"Stalled": ("True", "TokenInvalid")}
MINUTE = 60.0


class Bench:
    """What a scrape measures: a store, accounts, and no operator."""

    def __init__(self, *, per_reference: int = 0, most: int = 0) -> None:
        self.clock, self.metrics, self.store = FakeClock(), Metrics(), Store(limit=NamespaceLimit(most))
        self.leading = True
        upstream, clock = FakeUpstream(), a_clock(self.clock)
        self.accounts = Accounts(lambda token: Account(Reader(token, upstream=upstream, clock=clock)))
        self.measurements = Measurements(
            self.metrics,
            store=self.store,
            accounts=self.accounts,
            traffic=Traffic(self.metrics, clock=self.clock),
            clock=clock,
            may_write=lambda: self.leading,
            per_reference=per_reference,
        )

    def add(
        self,
        name: str,
        conditions: dict[str, tuple[str, str]] | None = None,
        *,
        uuid: str = UUID,
        end_of_life: str = "",
        **spec: Any,
    ) -> Entry:
        key = ObjectKey("shop", name)
        body = reference_body(key=key, uid=f"uid-{name}", clusterUUID=uuid, **spec)
        since = self.clock.now().isoformat()
        body["status"] = {
            "conditions": [
                {"type": kind, "status": status, "reason": reason, "lastTransitionTime": since}
                for kind, (status, reason) in (conditions or {}).items()
            ],
            "cluster": {"versionEndOfLife": end_of_life},
            "lastSyncTime": since,
        }
        self.store.observe_reference(body)
        entry = self.store.get(key)
        assert entry is not None
        return entry

    def crowd(self, namespace: str, *, size: int) -> None:
        for number in range(size):
            key = ObjectKey(namespace, f"db-{number}")
            self.store.observe_reference(reference_body(key=key, uid=f"{namespace}-{number}"))

    def answered(self, uuid: str = UUID, *, token: str = TOKEN) -> None:
        self.accounts.of(token)._cache.put(uuid, b"", now=self.clock())

    def scrape(self) -> None:
        self.measurements.take()
        self.text = self.metrics.render()[0].decode()

    def value(self, metric: str, /, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"dbclusterref_{metric}", labels)

    def references(self, state: str, reason: str) -> float | None:
        ready, fresh, stalled = state.split()
        return self.value("references", ready=ready, fresh=fresh, stalled=stalled, reason=reason)

    @property
    def overdue(self) -> list[float | None]:
        return [self.value("references_overdue", intervals=intervals) for intervals in ("1", "3", "10")]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_with_all_of_digitalocean_down_nothing_counts_as_synced(bench: Bench) -> None:
    for number in range(9):
        bench.add(f"db-{number}", DOWN)
    bench.add("stalled", STALLED)
    bench.add("new")
    bench.scrape()
    assert bench.references("true false false", "UpstreamUnavailable") == 9
    assert bench.references("false false true", "TokenInvalid") == 1
    assert bench.references("false false false", "Pending") == 1
    assert bench.references("true true false", "Synced") == 0


def test_references_without_a_place_are_counted_and_their_namespaces_named_within_a_bound() -> None:
    bench = Bench(most=1)
    for number in range(30):
        bench.crowd(f"team-{number:02}", size=number + 1)
    bench.scrape()
    assert bench.references("false false true", "TooLarge") == sum(range(30))
    assert bench.value("references_refused", namespace="team-29") == 29
    assert bench.text.count("dbclusterref_references_refused{") == 20
    assert bench.value("references_refused", namespace="team-09") is None
    bench.leading = False
    bench.scrape()
    assert "dbclusterref_references_refused{" not in bench.text


def test_an_answer_grows_old_and_is_overdue_by_intervals(bench: Bench) -> None:
    bench.add("fast", SYNCED, refreshInterval="1m")
    bench.add("slow", SYNCED, uuid=OTHER_UUID, refreshInterval="1h")
    bench.answered()
    bench.answered(OTHER_UUID)
    seen = []
    for minutes in (0, 2, 3, 5, 12):
        bench.clock.advance(minutes * MINUTE - (bench.value("oldest_answer_age_seconds") or 0.0))
        bench.scrape()
        assert bench.value("oldest_answer_age_seconds") == minutes * MINUTE
        seen.append(bench.overdue)
    assert seen == [[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_of_several_tokens_the_last_answer_counts(bench: Bench) -> None:
    bench.add("orders", SYNCED)
    bench.answered(token="rotated")
    bench.clock.advance(10 * MINUTE)
    bench.answered(token="new")
    bench.clock.advance(5.0)
    bench.scrape()
    assert bench.value("oldest_answer_age_seconds") == 5.0


def test_without_any_answer_the_age_counts_from_the_first_failure(bench: Bench) -> None:
    entry = bench.add("orders", DOWN)
    bench.scrape()
    assert bench.value("oldest_answer_age_seconds") == 0.0, "not asked yet"
    entry.published.not_fresh_since = bench.clock() - 20 * MINUTE
    bench.scrape()
    assert bench.value("oldest_answer_age_seconds") == 20 * MINUTE
    assert bench.overdue == [1, 1, 1]


@pytest.mark.parametrize("spec", [{"suspend": True}, {"refreshInterval": "soon"}], ids=["suspended", "invalid"])
def test_a_reference_that_nobody_reads_for_has_no_age(bench: Bench, spec: dict[str, Any]) -> None:
    bench.add("orders", SYNCED, **spec)
    bench.answered()
    bench.clock.advance(100 * MINUTE)
    bench.scrape()
    assert (bench.value("oldest_answer_age_seconds"), bench.overdue) == (0.0, [0, 0, 0])


def test_a_standby_shows_no_work_of_others_and_how_much_it_knows() -> None:
    bench = Bench(per_reference=5)
    bench.add("orders", DOWN, end_of_life="2020-01-01T00:00:00Z")
    bench.answered()
    bench.clock.advance(100 * MINUTE)
    bench.scrape()
    assert bench.value("oldest_answer_age_seconds") == 100 * MINUTE
    bench.leading = False
    bench.scrape()
    assert bench.value("references_known") == 1
    of_work = ("references", "oldest_answer", "ca_not_after", "version_end", "queue", "reference_")
    shown = [line for line in bench.text.splitlines() if line.startswith(tuple(f"dbclusterref_{name}" for name in of_work))]
    assert [line for line in shown if not line.startswith("dbclusterref_references_known") and not line.endswith(" 0.0")] == []


def test_the_first_end_of_life_and_those_past_it_are_shown(bench: Bench) -> None:
    now = bench.clock.now()
    past, soon = now - timedelta(days=1), now + timedelta(days=20)
    bench.add("old", SYNCED, end_of_life=past.isoformat())
    bench.add("oldish", SYNCED, end_of_life=soon.isoformat())
    bench.add("unknown", SYNCED)
    bench.scrape()
    assert bench.value("version_end_of_life_timestamp_seconds") == past.timestamp()
    assert bench.value("references_past_end_of_life") == 1


# --- CA certificates


def a_ca(days: int) -> tuple[bytes, float]:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{days}")])
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(days).not_valid_before(end - timedelta(days=400)).not_valid_after(end)
    certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(key, hashes.SHA256())
    return certificate.public_bytes(Encoding.PEM), end.timestamp()


def has_ca(entry: Entry, pem: bytes) -> None:
    entry.reads.packed_snapshot = PackedSnapshot.of(Snapshot(cluster=a_cluster(), ca=pem))


def test_the_first_ca_to_expire_is_shown_and_one_that_was_replaced_is_not(bench: Bench) -> None:
    (early, first), (late, second) = a_ca(30), a_ca(300)
    entries = [bench.add(f"db-{number}", SYNCED) for number in range(3)]
    for entry, pem in zip(entries, (early, late, PEM), strict=True):
        has_ca(entry, pem)
    bench.scrape()
    assert bench.value("ca_not_after_timestamp_seconds") == first
    has_ca(entries[0], late)
    bench.scrape()
    assert bench.value("ca_not_after_timestamp_seconds") == second


def test_many_cas_are_read_over_several_scrapes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "MOST_NEW_CERTIFICATES", 2)
    made = [a_ca(days) for days in (10, 20, 30, 40, 50)]
    for number, (pem, _) in enumerate(made):
        has_ca(bench.add(f"db-{number}", SYNCED), pem)
    for _ in range(3):
        bench.scrape()
    assert bench.value("ca_not_after_timestamp_seconds") == made[0][1]


@pytest.mark.parametrize("pem", [b"", b"no PEM", "ä".encode(), PEM])
def test_what_is_no_certificate_has_no_expiry(pem: bytes) -> None:
    assert not_after(pem) == 0.0


@pytest.mark.parametrize("time", [b"991399999999Z", b"260229120000Z", b"xxxxxxxxxxxxZ", b"\x00" * 13])
def test_a_certificate_whose_time_is_none_costs_nobody_the_metrics(time: bytes) -> None:
    # A tenant can put one into a Secret that looks like the operator's; OpenSSL loads it.
    pem, _ = a_ca(30)
    der = ssl.PEM_cert_to_DER_cert(pem.decode())
    *_, end = re.findall(rb"\x17\x0d(\d{12}Z)", der)
    assert not_after(ssl.DER_cert_to_PEM_cert(der.replace(end, time)).encode()) == 0.0


def test_of_a_bundle_the_first_to_expire_counts() -> None:
    (early, first), (late, _) = a_ca(30), a_ca(300)
    assert not_after(late + early) == first


# --- series of single references


def names(bench: Bench) -> Iterable[str]:
    return sorted({line.partition('name="')[2].partition('"')[0] for line in bench.text.splitlines() if 'name="' in line})


def test_of_too_many_references_those_in_trouble_are_shown_and_the_others_counted() -> None:
    bench = Bench(per_reference=2)
    for name, conditions in (("a", SYNCED), ("b", SYNCED), ("c", DOWN)):
        bench.add(name, conditions)
    bench.scrape()
    assert names(bench) == ["a", "c"]
    assert bench.value("reference_series_omitted") == 1
    assert bench.value("reference_condition", namespace="shop", name="c", type="Ready") == 1
    assert bench.value("reference_condition", namespace="shop", name="c", type="Fresh") == 0


def test_the_last_success_of_a_reference_is_its_last_answer_or_before_its_first_failure() -> None:
    bench = Bench(per_reference=5)
    bench.add("well", SYNCED)
    failing = bench.add("failing", DOWN)
    failing.published.not_fresh_since = bench.clock() - 20 * MINUTE
    bench.add("unread", SYNCED, uuid=OTHER_UUID)
    bench.answered()
    bench.clock.advance(30.0)
    bench.scrape()
    now = bench.clock.now().timestamp()

    def success(name: str) -> float | None:
        return bench.value("reference_last_success_timestamp_seconds", namespace="shop", name=name)

    assert success("well") == pytest.approx(now - 30, abs=1)
    assert success("failing") == pytest.approx(now - 30 - 20 * MINUTE, abs=1)
    assert success("unread") is None


def test_no_reference_is_named_unless_somebody_asks_for_it(bench: Bench) -> None:
    bench.add("orders", DOWN)
    bench.answered()
    bench.scrape()
    assert "orders" not in bench.text
    assert UUID not in bench.text
