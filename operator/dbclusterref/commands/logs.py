"""Log lines: plain for people, JSON for machines; the libraries' own lines below WARNING only at the debug level."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter as BaseJsonFormatter

LOGGER = logging.getLogger("dbclusterref")

_CHATTY = ("kopf", "httpx", "httpcore", "aiohttp", "asyncio", "kubernetes")


class JsonFormatter(BaseJsonFormatter):
    """One JSON object a line: time, level, logger, message, and what the line was given as `extra={"fields": {...}}`."""

    def __init__(self) -> None:
        super().__init__(["message"], json_ensure_ascii=False)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Fill in a line's members.

        What libraries attach to their lines is left out: kopf attaches whole objects, which may be Secrets.
        """
        log_data |= {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.message,
        }
        if message_dict.get("exc_info"):
            log_data["traceback"] = message_dict["exc_info"]
        log_data |= getattr(record, "fields", {})


class PlainFormatter(logging.Formatter):
    """One line for each message. It may hold what a tenant wrote: nothing in it begins a line or moves a terminal's cursor."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line, with the escapes of Python in place of what cannot be printed."""
        line = super().formatMessage(record)
        return line if line.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def _log_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Log by its type alone an exception that nobody can catch: its message may hold anything."""
    LOGGER.error("An exception in a finalizer was ignored: %s.", unraisable.exc_type.__name__)


def configure_logging(*, log_format: str, level: str) -> None:
    """Send everything to standard error. Formats and levels are those of `settings`."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(PlainFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # What Python itself writes to standard error becomes a line as well: a collector reads each as JSON.
    logging.captureWarnings(capture=True)
    sys.unraisablehook = _log_unraisable
    if level != "debug":
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        # What goes wrong with its watches is logged by the informer, once and not at each try.
        logging.getLogger("kopf._cogs.clients").setLevel(logging.CRITICAL)
