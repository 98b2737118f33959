"""Tunable intervals, in seconds, as one value: tests make them shorter."""

from dataclasses import dataclass, fields, replace

from dbclusterref.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """`DBCLUSTERREF_TIMING=name=seconds,…` overrides single ones: meant for tests and experiments, not for installations.

    The lease's three periods are those of Kubernetes' own components: a leader stops writing `renew_deadline` after it last
    began a renewal that succeeded, another waits the longer `lease_duration`.
    """

    resync: float = 720.0
    """Between two full listings that find what the watches missed."""
    confirm_not_found: float = 10.0
    """Between a cluster's first 404 and the one that is believed."""
    watch_silence: float = 150.0
    """Without a byte on a watch, bookmarks (one a minute) included, while the API server answers: it is restarted."""
    watch_idle: float = 70.0
    """Without a byte on a watch: kopf reconnects after that."""
    conflict_window: float = 60.0
    """More than a handful of repairs of one Secret within this means a conflicting writer; then one repair each."""
    conflict_calm: float = 300.0
    """Without a repair: the conflict is over after that."""
    rights: float = 60.0
    """Between two checks whether a missing right has been granted, or an existing one taken away."""
    after_refusal: float = 30.0
    """Until a restart or a CA's ConfigMap that was refused is tried again; one whose answer was lost may still be under way."""
    restart_debounce: float = 10.0
    """Without a change of a Secret: the workloads that follow it are restarted after that."""
    restart_timeout: float = 600.0
    """For one rollout: the next workload is restarted after that. Kubernetes' own progressDeadlineSeconds."""
    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    @classmethod
    def from_text(cls, text: str) -> "Timing":
        """Read `resync=5,lease_duration=3`. Raises SettingsError for an unknown name, or a number that is not positive."""
        known = {item.name for item in fields(cls)}
        given: dict[str, float] = {}
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            try:
                seconds = float(value)
            except ValueError:
                seconds = 0.0
            if name not in known or not 0 < seconds < float("inf"):
                raise SettingsError(
                    f"DBCLUSTERREF_TIMING: {part!r} is not a name with a positive number of seconds; the names are "
                    f"{', '.join(sorted(known))}."
                )
            given[name] = seconds
        timing = replace(cls(), **given)
        if not timing.retry_period < timing.renew_deadline < timing.lease_duration:
            raise SettingsError("DBCLUSTERREF_TIMING: retry_period, renew_deadline and lease_duration must grow in this order.")
        return timing
