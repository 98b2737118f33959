"""Log lines: plain for people, JSON for machines; the libraries' own chatter only at the debug level."""

import json
import logging
import sys
from datetime import UTC, datetime

LOGGER = logging.getLogger("dbclusterref")

_CHATTY = ("kopf", "httpx", "httpcore", "aiohttp", "asyncio", "kubernetes")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message, and whatever the line was given as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        """Writes one record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(*, log_format: str, level: str) -> None:
    """Sends everything to standard error. Formats and levels are those of `settings`."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if level != "debug":
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        # What is wrong with a kubeconfig is said once, in our own words.
        logging.getLogger("kubernetes.aio.config").setLevel(logging.ERROR)
