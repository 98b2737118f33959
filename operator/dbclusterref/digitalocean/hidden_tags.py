"""Whether DigitalOcean shows the operator's own token the tags of clusters: without the scope tag:read no tag grants anything.

A status never says so: that would show a namespace that a cluster exists. The operator's log does, for its owner.
"""

import logging


class HiddenTags:
    """Logs once that tags are hidden, and once that they are shown again."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._hidden = False

    def saw(self, granted_to: tuple[str, ...] | None) -> None:
        """Record to whom a cluster is granted as the operator's own token was shown it; None where it was shown no tags."""
        before, self._hidden = self._hidden, granted_to is None
        if self._hidden and not before:
            self._logger.warning(
                "DigitalOcean shows the operator's own token no tags, so every reference without spec.apiTokenSecretRef "
                "becomes AccessDenied, whatever tags its cluster has. Give that token the scope tag:read; dbclusterref check "
                "tests it."
            )
        elif before and not self._hidden:
            self._logger.info("DigitalOcean shows the operator's own token tags again.")
