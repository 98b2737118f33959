"""What the operator counts. Labels are small, closed sets: no names of resources, clusters or tokens among them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector, generate_latest


class Metrics:
    """All metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.reconciles = Counter(
            "dbclusterref_reconciles", "Reconciliations by outcome: a condition's reason.", ["reason"], registry=registry
        )
        self.reconcile_seconds = Histogram(
            "dbclusterref_reconcile_seconds", "How long one reconciliation took, reads and writes included.", registry=registry
        )
        self.bugs = Counter(
            "dbclusterref_unexpected_errors", "Reconciliations that ended in a bug; each is logged.", registry=registry
        )
        self.upstream_replies = Counter(
            "dbclusterref_digitalocean_replies", "Replies by HTTP status, 0 for none.", ["status"], registry=registry
        )
        self.upstream_remaining = Gauge(
            "dbclusterref_digitalocean_ratelimit_remaining",
            "Requests that the last reply said are left in the hour, of the token that made it.",
            registry=registry,
        )
        self.upstream_slowdown = Gauge(
            "dbclusterref_digitalocean_slowdown",
            "By what factor reads are fewer because a token's hour runs low, 1 for not at all; the worst of all tokens.",
            registry=registry,
        )
        self.writes = Counter(
            "dbclusterref_kubernetes_writes", "Writes by kind of object and result.", ["kind", "result"], registry=registry
        )
        self.events_dropped = Counter(
            "dbclusterref_events_dropped", "Events that were not posted: refused, or too many of them.", registry=registry
        )
        self.references = Gauge(
            "dbclusterref_references", "Resources known, by the reason of their Ready condition.", ["reason"], registry=registry
        )
        self.queue_length = Gauge("dbclusterref_queue_length", "Resources that want work now.", registry=registry)
        self.queue_overdue_seconds = Gauge(
            "dbclusterref_queue_overdue_seconds", "By how much the most overdue deadline is missed.", registry=registry
        )
        self.missed_changes = Counter(
            "dbclusterref_missed_changes", "Changes that no watch told of and a full listing found.", registry=registry
        )
        self.watch_restarts = Counter(
            "dbclusterref_watch_restarts", "Watches started anew because they were silent or had ended.", registry=registry
        )
        self.watch_age_seconds = Gauge(
            "dbclusterref_watch_age_seconds",
            "Since the watch that has been silent for longest was heard of.",
            registry=registry,
        )
        self.secrets_watched = Gauge(
            "dbclusterref_secrets_watched", "1 where Secrets are repaired at once, 0 where they may not be watched.",
            registry=registry,
        )  # fmt: skip
        self.namespaces_refused = Gauge(
            "dbclusterref_namespaces_refused",
            "Namespaces named in --namespaces that cannot be listed and are not watched.",
            registry=registry,
        )
        self.credentials_rejected = Gauge(
            "dbclusterref_kubernetes_credentials_rejected",
            "1 while the Kubernetes API rejects the operator's credentials (401).",
            registry=registry,
        )
        self.loop_lag_seconds = Gauge(
            "dbclusterref_event_loop_lag_seconds", "By how much the event loop is late.", registry=registry
        )
        self.suspicions = Counter(
            "dbclusterref_disbelieved_not_found",
            "404s taken for trouble because many clusters of one account vanished at once.",
            registry=registry,
        )
        self.leading = Gauge("dbclusterref_leader", "1 while this process may write, 0 while it stands by.", registry=registry)

    def render(self) -> bytes:
        """Writes the Prometheus text format."""
        return generate_latest(self.registry)
