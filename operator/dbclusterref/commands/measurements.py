"""What is measured at each scrape. Nothing of it is kept for each reference: ten thousand of them cost no memory here."""

import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from heapq import nlargest, nsmallest
from itertools import islice

from dbclusterref.clock import Clock
from dbclusterref.commands.reference_series import ReferenceCollector, ReferenceSeries
from dbclusterref.digitalocean.accounts import Accounts
from dbclusterref.digitalocean.traffic import Traffic
from dbclusterref.errors import TooLarge
from dbclusterref.metrics import OVERDUE, PENDING, Metrics
from dbclusterref.reconcile.entry import Entry
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.status import Summary, parse_time

MOST_NEW_CERTIFICATES = 100
"""CA certificates parsed in one scrape, a fifth of a millisecond each; the others follow with the next."""
MOST_NAMESPACES = 20
"""Namespaces with more references than are served that are named, those with the most of them."""


class Measurements:
    """Measures `store`, `accounts` and `traffic`. `per_reference` is how many references have series of their own.

    While `may_write` is false, everything that describes work is 0: the process that does the work shows it.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        store: Store,
        accounts: Accounts,
        traffic: Traffic,
        clock: Clock,
        may_write: Callable[[], bool],
        per_reference: int = 0,
    ) -> None:
        self._metrics = metrics
        self._store = store
        self._accounts = accounts
        self._traffic = traffic
        self._clock = clock
        self._may_write = may_write
        self._per_reference = per_reference
        self._not_after: dict[bytes, float] = {}
        if per_reference:
            metrics.registry.register(ReferenceCollector(metrics, self._series))

    def take(self) -> None:
        """Update the gauges."""
        metrics = self._metrics
        self._traffic.measure()
        metrics.upstream_slowdown.set(self._accounts.slowdown)
        metrics.references_known.set(len(self._store))
        if self._may_write():
            self._measure_references()
            return
        metrics.set_references({})
        metrics.references_refused.clear()
        for gauge in (
            metrics.oldest_answer_age, metrics.ca_not_after, metrics.end_of_life, metrics.past_end_of_life,
            metrics.series_omitted, metrics.queue_length, metrics.queue_overdue_seconds,
        ):  # fmt: skip
            gauge.set(0)
        for intervals in OVERDUE:
            metrics.references_overdue.labels(str(intervals)).set(0)

    def _measure_references(self) -> None:
        metrics, read_times = self._metrics, self._accounts.read_times()
        summaries, authorities = Counter[Summary](), set[bytes]()
        oldest, overdue = 0.0, dict.fromkeys(OVERDUE, 0)
        for entry in self._store:
            summaries[entry.summary] += 1
            if entry.reads.packed_snapshot and entry.reads.packed_snapshot.ca:
                authorities.add(entry.reads.packed_snapshot.ca)
            age = self._age(entry, read_times)
            if age is None or entry.reference is None:
                continue
            oldest = max(oldest, age)
            for intervals in OVERDUE:
                overdue[intervals] += age > (1 + intervals) * entry.reference.refresh_interval
        metrics.oldest_answer_age.set(oldest)
        for intervals, count in overdue.items():
            metrics.references_overdue.labels(str(intervals)).set(count)
        metrics.series_omitted.set(max(0, len(self._store) - self._per_reference) if self._per_reference else 0)
        metrics.ca_not_after.set(self._first_expiry(authorities))
        self._count(summaries)

    def _count(self, summaries: Counter[Summary]) -> None:
        now = self._clock.now()
        counts, ends, past = Counter[tuple[bool, bool, bool, str]](), list[float](), 0
        for summary, count in summaries.items():
            counts[summary.ready, summary.fresh, summary.stalled, summary.reason or PENDING] += count
            if end := parse_time(summary.version_end_of_life):
                ends.append(end.timestamp())
                past += count if end <= now else 0
        self._metrics.references_refused.clear()
        if refused := self._store.limit.refused:
            counts[False, False, True, TooLarge.reason] += sum(refused.values())
            for namespace in nlargest(MOST_NAMESPACES, refused, key=lambda name: (refused[name], name)):
                self._metrics.references_refused.labels(namespace).set(refused[namespace])
        self._metrics.set_references(counts)
        self._metrics.end_of_life.set(min(ends, default=0.0))
        self._metrics.past_end_of_life.set(past)

    def _age(self, entry: Entry, read_times: dict[str, float]) -> float | None:
        """Return for how long DigitalOcean has not answered; None where nobody asks it, or has yet to."""
        reference = entry.reference
        if reference is None or reference.suspend or entry.identity.deleting:
            return None
        answers = [entry.reads.answered_at, None if entry.summary.stalled else read_times.get(reference.cluster_uuid)]
        # Walks over the listing confirm a cluster without waking its references.
        answered = max((at for at in answers if at is not None), default=entry.published.not_fresh_since)
        return None if answered is None else max(0.0, self._clock.monotonic() - answered)

    def _first_expiry(self, authorities: set[bytes]) -> float:
        new = islice(authorities - self._not_after.keys(), MOST_NEW_CERTIFICATES)
        # Those in use alone: a CA that was replaced no longer matters.
        self._not_after = {pem: at for pem, at in self._not_after.items() if pem in authorities}
        self._not_after |= {pem: not_after(pem) for pem in new}
        return min((at for at in self._not_after.values() if at), default=0.0)

    def _series(self) -> Iterator[ReferenceSeries]:
        if not self._may_write():
            return
        read_times, now = self._accounts.read_times(), self._clock.now().timestamp()
        for entry in nsmallest(self._per_reference, self._store, key=_troubled_first):
            summary, key = entry.summary, entry.identity.key
            age = self._age(entry, read_times)
            since = entry.published.not_fresh_since
            if age is not None and since is not None:
                age = max(age, self._clock.monotonic() - since)
            yield ReferenceSeries(
                namespace=key.namespace,
                name=key.name,
                conditions=(summary.ready, summary.fresh, summary.stalled),
                last_success=round(now - age) if age is not None and summary.was_synced else None,
            )


def not_after(pem: bytes) -> float:
    """Return when the first of the CA certificates in a PEM file expires, in Unix time; 0 where it cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=pem.decode("ascii"))
        ends = [str(certificate["notAfter"]) for certificate in context.get_ca_certs()]
        return min(map(float, map(ssl.cert_time_to_seconds, ends)), default=0.0)
    except (ssl.SSLError, ValueError):  # OpenSSL loads a certificate whose time is none, and says "Bad time value"
        return 0.0


def _troubled_first(entry: Entry) -> tuple[bool, str, str]:
    return entry.summary.fresh, entry.identity.key.namespace, entry.identity.key.name
