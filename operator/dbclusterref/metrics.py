"""All metrics: what each one counts, its labels, and what to do with it. docs/metrics.md is generated from this module.

Labels are small, closed sets: no names of resources, clusters or tokens. The exceptions are the series of single references,
which are off unless a person asks for them, and the namespaces with more references than are served, at most 20. A label
value that an alert waits for exists from the start: Prometheus sees no increase in a counter whose first sample is already 1.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import product
from platform import python_version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dbclusterref.errors import Cause

PREFIX = "dbclusterref_"
SYNCED, SUSPENDED, PENDING = "Synced", "Suspended", "Pending"

ROUTES = ("list", "cluster", "ca", "user", "pool", "database", "replicas")
"""The reads of DigitalOcean's API."""
NO_REPLY = "0"
"""The code of a request that got no complete reply."""
CODES = (NO_REPLY, "200", "401", "403", "404", "429", "500", "502", "503", "504")
CAUSES = ("created", "changed", "repaired", "renamed", "removed", "adopted")
"""Why a Secret is written."""
RESTART_RESULTS = ("restarted", "timed_out", "failed")
OVERDUE = (1, 3, 10)
"""Refresh intervals by which an answer is overdue."""
REFERENCE_CONDITION = f"{PREFIX}reference_condition"
REFERENCE_LAST_SUCCESS = f"{PREFIX}reference_last_success_timestamp_seconds"

UPSTREAM_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RECONCILE_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What the documentation says of one metric. `labels` gives the meaning of each label."""

    name: str
    kind: str
    help: str
    advice: str
    labels: Mapping[str, str] = field(default_factory=dict)


def reasons() -> tuple[str, ...]:
    """Return every reason that a reconciliation can have."""
    return tuple(sorted({cause.reason for cause in _leaves(Cause)} | {SYNCED, SUSPENDED}))


class Metrics:
    """All metrics, in a registry of their own."""

    def __init__(self, *, revision: str = "unknown") -> None:
        # They double the number of series, and say only when the process started.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.catalogue: list[Description] = []
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._describe_references()
        self._describe_reconciliation()
        self._describe_upstream()
        self._describe_kubernetes()
        self._describe_process(revision=revision)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics in the format that an Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def set_references(self, counts: Mapping[tuple[bool, bool, bool, str], int]) -> None:
        """Replace the counts of references by ready, fresh, stalled and reason."""
        self.references.clear()
        for (*states, reason), count in ({(True, True, False, SYNCED): 0} | dict(counts)).items():
            self.references.labels(*(str(state).lower() for state in states), reason).set(count)

    def set_budgets(self, budgets: Mapping[str, tuple[int, int]]) -> None:
        """Replace the budgets: requests left and the hourly limit, by the opaque id of a token."""
        self.upstream_remaining.clear()
        self.upstream_limit.clear()
        for token, (remaining, limit) in budgets.items():
            self.upstream_remaining.labels(token).set(remaining)
            self.upstream_limit.labels(token).set(limit)

    def count_transitions(self, read: Callable[[], int]) -> None:
        """Take the number of leader transitions from `read` at each scrape: the Lease counts them."""
        self._transitions.read = read

    def count_kubernetes_request(self, verb: str, resource: str, code: int) -> None:
        """Count a request to the Kubernetes API; code 0 for one without a reply."""
        self.kubernetes_requests.labels(verb, resource, str(code)).inc()

    def _describe_references(self) -> None:
        self.references = self._gauge(
            "references",
            "DatabaseClusterRefs by their conditions and by the reason of Fresh; 0 on a standby.",
            'Alert on `stalled="true"`: a person must act, and the reason says how. `fresh="false"` with `ready="true"` is an '
            "outage that has not cost anything yet.",
            ready="`true` or `false`: the Secret can be used",
            fresh="`true` or `false`: the Secret matches DigitalOcean's last answer",
            stalled="`true` or `false`: a person must act",
            reason="why; one of the reasons in docs/conditions.md, `Pending` before the first report",
        )
        self.references_known = self._gauge(
            "references_known",
            "DatabaseClusterRefs in this process's memory, on a standby too.",
            "Compare a standby with its leader: a standby that knows as many takes over without listing anything.",
        )
        self.references_refused = self._gauge(
            "references_refused",
            "References that are not served because their namespace has more than --max-per-namespace, as last listed.",
            "Give the namespace a ResourceQuota, or raise `--max-per-namespace`: [scaling.md](scaling.md#one-namespace).",
            namespace="those with the most; at most 20 namespaces",
        )
        self.oldest_answer_age = self._gauge(
            "oldest_answer_age_seconds",
            "Age of the oldest answer of DigitalOcean that a reference in use relies on; 0 on a standby.",
            "Grows by a second a second while DigitalOcean cannot be reached. Suspended and invalid references do not count.",
        )
        self.references_overdue = self._gauge(
            "references_overdue",
            "References whose answer is overdue by more than so many refresh intervals.",
            "`3` for a few minutes is worth a look, `10` is worth a page: changes upstream no longer reach the Secrets.",
            intervals="`1`, `3` or `10`; each includes the next",
        )
        for intervals in OVERDUE:
            self.references_overdue.labels(str(intervals))
        self.ca_not_after = self._gauge(
            "ca_not_after_timestamp_seconds",
            "When the first of the CA certificates in use expires, in Unix time; 0 where no CA is in use.",
            "DigitalOcean renews its CAs. If this comes near, check that applications read `ca.crt` again.",
        )
        self.end_of_life = self._gauge(
            "version_end_of_life_timestamp_seconds",
            "When the first of the database versions in use reaches its end of life, in Unix time; 0 where none is known.",
            "Plan the upgrade of the cluster; its version is in `status.cluster` of the references: `kubectl get dbref -A -o "
            "custom-columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name,VERSION:.status.cluster.version,"
            "ENDS:.status.cluster.versionEndOfLife`.",
        )
        self.past_end_of_life = self._gauge(
            "references_past_end_of_life",
            "References to clusters whose database version has reached its end of life.",
            "DigitalOcean upgrades such clusters in a maintenance window of its choice; upgrade them before.",
        )
        self.series_omitted = self._gauge(
            "reference_series_omitted",
            "References without series of their own because there are more than --metrics-per-reference allows.",
            "Raise `--metrics-per-reference`. References that are not fresh come first.",
        )
        names = {"namespace": "the reference's", "name": "the reference's"}
        self._describe(
            "reference_condition",
            "gauge",
            "1 where a condition of one reference is True; only with --metrics-per-reference.",
            "For dashboards that name references. Alert on `dbclusterref_references` instead: it is complete.",
            {**names, "type": "`Ready`, `Fresh` or `Stalled`"},
        )
        self._describe(
            "reference_last_success_timestamp_seconds",
            "gauge",
            "When one reference was last in sync with DigitalOcean, in Unix time; only with --metrics-per-reference.",
            "`time() - dbclusterref_reference_last_success_timestamp_seconds` is the age of its Secret.",
            names,
        )

    def _describe_reconciliation(self) -> None:
        self.reconciles = self._counter(
            "reconciles",
            "Reconciliations by outcome.",
            "Which outcomes keep coming. A failure that lasts is tried again about once a minute, or every five where a "
            "person must act.",
            reason="`Synced`, `Suspended`, or the reason of the failure",
        )
        for reason in reasons():
            self.reconciles.labels(reason)
        self.reconcile_seconds = self._histogram(
            "reconcile_duration_seconds",
            "Duration of one reconciliation, including its reads and writes.",
            "A high 99th percentile with low request durations means that the process lacks CPU.",
            RECONCILE_BUCKETS,
        )
        self.bugs = self._counter(
            "unexpected_errors",
            "Reconciliations and tasks that ended in a bug; each is logged with its traceback.",
            "Report the traceback. The reference concerned is tried again after 30 seconds.",
        )
        self.secret_writes = self._counter(
            "secret_writes",
            "Secrets written or removed, by cause.",
            "`changed` is a rotation, a failover or a changed spec. `repaired` that keeps growing means that another client "
            "writes the Secret; `SecretContested` names it.",
            cause="`created`, `changed`, `repaired` (somebody edited or deleted it), `renamed` (written under a new "
            "`spec.secret.name`), `removed` (the former name, or revoked), `adopted`",
        )
        for cause in CAUSES:
            self.secret_writes.labels(cause)
        self.workload_restarts = self._counter(
            "workload_restarts",
            "Restarts of workloads that spec.restart names.",
            "`timed_out` or `failed` that grows: `status.restarts` of the resource says which workload, and why.",
            result="`restarted`, `timed_out` (its rollout took longer than ten minutes), `failed` (missing, or refused)",
        )
        for result in RESTART_RESULTS:
            self.workload_restarts.labels(result)
        self.suspicions = self._counter(
            "disbelieved_not_found",
            "404s treated as an upstream or token problem because many clusters of one account vanished at once.",
            "Check the token's team and DigitalOcean's status page. The Secrets are unchanged.",
        )
        self.queue_length = self._gauge(
            "queue_length",
            "References that wait for a worker; 0 on a standby.",
            "Falls to 0 within seconds of a start.",
        )
        self.queue_overdue_seconds = self._gauge(
            "queue_overdue_seconds",
            "How late the most overdue work is; 0 on a standby.",
            "Above a minute the process cannot keep up: look at its CPU and at request durations, or run shards.",
        )

    def _describe_upstream(self) -> None:
        route = "`list` (a page of the listing), `cluster`, `ca`, `user`, `pool`, `database` or `replicas`"
        self.upstream_requests = self._counter(
            "digitalocean_requests",
            "Requests to DigitalOcean's API.",
            "`0` and `5..` are outages, `429` a shared or small rate limit, `401` and `403` a token problem.",
            route=route,
            code="the HTTP status, `0` where no complete reply came",
        )
        for pair in product(ROUTES, CODES):
            self.upstream_requests.labels(*pair)
        self.upstream_seconds = self._histogram(
            "digitalocean_request_duration_seconds",
            "Duration of requests to DigitalOcean's API, body included.",
            "A page of the listing takes longer than a cluster. A request is given up after 30 seconds.",
            UPSTREAM_BUCKETS,
            route=route,
        )
        for each in ROUTES:
            self.upstream_seconds.labels(each)
        ids = "an opaque id: the same token has the same id in every process; at most 20, the lowest budgets first"
        self.upstream_remaining = self._gauge(
            "digitalocean_ratelimit_remaining",
            "Requests that a token has left in the hour, by DigitalOcean's last reply.",
            "Which tokens run low. An id is a digest of 128 bits: nobody can turn it into the token, and whoever has a token "
            "can find its id. The log does not show them.",
            token=ids,
        )
        self.upstream_limit = self._gauge(
            "digitalocean_ratelimit_limit",
            "Requests an hour that DigitalOcean allows a token.",
            "5,000 unless DigitalOcean has changed it for the team.",
            token=ids,
        )
        self.upstream_lowest = self._gauge(
            "digitalocean_ratelimit_lowest_remaining",
            "The smallest number of requests that any token has left in the hour; 0 where nothing was read yet.",
            "See docs/scaling.md for the arithmetic. Other programs that use the same token take from it, too.",
        )
        self.upstream_slowdown = self._gauge(
            "digitalocean_slowdown",
            "Factor by which reads are slowed by a low hourly limit, 1 for not at all; the worst of all tokens.",
            "Above 1, `spec.refreshInterval` is not kept: raise it, or use more tokens.",
        )

    def _describe_kubernetes(self) -> None:
        self.kubernetes_requests = self._counter(
            "kubernetes_requests",
            "Requests to the Kubernetes API, those of the watches included.",
            "`0` and `5..` are outages, `403` a missing right, `409` another writer, `429` API priority and fairness.",
            verb="as in RBAC: `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`",
            resource="as in RBAC, subresources included: `secrets`, `databaseclusterrefs/status` …",
            code="the HTTP status, `0` where no reply came",
        )
        self.writes = self._counter(
            "kubernetes_writes",
            "Secrets, statuses and ConfigMaps written.",
            "`failed` that keeps growing: the log has the API server's answer.",
            kind="`Secret`, `Status` or `ConfigMap`",
            result="`ok` or `failed`",
        )
        for pair in product(("Secret", "Status", "ConfigMap"), ("ok", "failed")):
            self.writes.labels(*pair)
        self.events_dropped = self._counter(
            "events_dropped",
            "Events that were not posted: refused, or too many of them.",
            "Conditions and the log say the same; nothing depends on Events.",
        )
        self.missed_changes = self._counter(
            "missed_changes",
            "Changes that no watch reported and a full listing found.",
            "A proxy or load balancer between the operator and the API server drops data; both are repaired by the listing.",
        )
        self.watch_restarts = self._counter(
            "watch_restarts",
            "Watches restarted because they were silent or had ended.",
            "A few after an upgrade of the control plane are normal.",
        )
        self.watch_age_seconds = self._gauge(
            "watch_age_seconds",
            "Seconds since the quietest watch last received data.",
            "A watch is restarted after 150 seconds of silence; `/healthz` fails after two unsuccessful restarts.",
        )
        self.secrets_watched = self._gauge(
            "secrets_watched",
            "1 where Secrets are watched and repaired at once, 0 where that is not allowed.",
            "Grant `list` and `watch` on Secrets, or accept that repairs wait for the next refresh.",
        )
        self.namespaces_refused = self._gauge(
            "namespaces_refused",
            "Namespaces named in --namespaces that cannot be listed and are not watched.",
            "Grant the rights in these namespaces or drop them from `--namespaces`; the log names them.",
        )
        self.credentials_rejected = self._gauge(
            "kubernetes_credentials_rejected",
            "1 while the Kubernetes API rejects the operator's credentials (401).",
            "Check that the ServiceAccount exists, or renew the kubeconfig.",
        )

    def _describe_process(self, *, revision: str) -> None:
        self.leading = self._gauge(
            "leader",
            "1 while this process may write, 0 while it is a standby.",
            "The sum over all processes is 1, or the number of shards.",
        )
        self._transitions = _Transitions()
        self._describe(
            "leader_transitions_total",
            "counter",
            "How often the Lease changed hands, as the Lease itself counts; 0 without leader election.",
            "More than one an hour outside of upgrades: the API server is slow or the process lacks CPU.",
        )
        self.registry.register(self._transitions)
        self.loop_lag_seconds = self._gauge(
            "event_loop_lag_seconds",
            "How late the event loop is.",
            "Above a second for long: the process gets too little CPU. Raise its CPU request.",
        )
        build = self._gauge(
            "build_info",
            "Always 1; the labels say which version runs.",
            "Join it to see which version an instance has.",
            version="of dbclusterref",
            revision="the git commit that the image was built from, `unknown` elsewhere",
            python_version="of the interpreter",
        )
        build.labels(version("dbclusterref"), revision, python_version()).set(1)

    def _describe(self, name: str, kind: str, help_text: str, advice: str, labels: Mapping[str, str] | None = None) -> str:
        self.catalogue.append(Description(name=PREFIX + name, kind=kind, help=help_text, advice=advice, labels=labels or {}))
        return PREFIX + name

    def _counter(self, name: str, help_text: str, advice: str, **labels: str) -> Counter:
        self._describe(f"{name}_total", "counter", help_text, advice, labels)
        return Counter(PREFIX + name, help_text, tuple(labels), registry=self.registry)

    def _gauge(self, name: str, help_text: str, advice: str, **labels: str) -> Gauge:
        return Gauge(self._describe(name, "gauge", help_text, advice, labels), help_text, tuple(labels), registry=self.registry)

    def _histogram(self, name: str, help_text: str, advice: str, buckets: tuple[float, ...], **labels: str) -> Histogram:
        full = self._describe(name, "histogram", help_text, advice, labels)
        return Histogram(full, help_text, tuple(labels), registry=self.registry, buckets=buckets)


class _Transitions(Collector):
    """A counter that the Lease keeps, across processes."""

    def __init__(self) -> None:
        self.read: Callable[[], int] = lambda: 0

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            f"{PREFIX}leader_transitions",
            "How often the Lease changed hands, as the Lease itself counts; 0 without leader election.",
            value=self.read(),
        )


def _leaves(kind: type[Cause]) -> Iterator[type[Cause]]:
    children = kind.__subclasses__()
    for child in children:
        yield from _leaves(child)
    if not children:
        yield kind
