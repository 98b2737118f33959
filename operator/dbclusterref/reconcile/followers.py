"""What follows a published Secret: the workloads that are restarted for it, and the ConfigMap with its CA."""

from dataclasses import dataclass
from math import inf

from dbclusterref.reconcile.ca_publisher import CaPublisher
from dbclusterref.reconcile.entry import Entry
from dbclusterref.reconcile.restarter import Restarter
from dbclusterref.resource.ca_config_map import CaConfigMap
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.reference import Reference
from dbclusterref.resource.restart import Restart


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """How far each has come; None where nobody looked. `look_in` is in how many seconds to look again."""

    restarts: tuple[Restart, ...] | None = None
    ca_config_map: tuple[CaConfigMap, ...] | None = None
    look_in: float = inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Followers:
    """The two publishers that act after the Secret's."""

    restarter: Restarter
    ca_publisher: CaPublisher

    def forget(self, key: ObjectKey) -> None:
        """Give back what a resource holds: it is gone, or suspended."""
        self.restarter.forget(key)

    async def step(self, entry: Entry, reference: Reference, *, revision: int) -> Followed:
        """Do what is due for a Secret of this revision."""
        restarts, restart_in = await self.restarter.step(entry, reference, revision=revision)
        ca_config_map, ca_in = await self.ca_publisher.step(entry, reference)
        return Followed(restarts=restarts, ca_config_map=ca_config_map, look_in=min(restart_in, ca_in))
