import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dbclusterref.commands.logs import LOGGER, JsonFormatter, configure_logging
from dbclusterref.commands.settings import LOG_FORMATS, LOG_LEVELS

LIBRARIES = ("kopf", "httpx", "httpcore", "aiohttp", "asyncio", "kubernetes")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    loggers = [logging.getLogger(), *map(logging.getLogger, LIBRARIES)]
    before = [(logger, list(logger.handlers), logger.level) for logger in loggers]
    for logger in loggers[1:]:
        logger.setLevel(logging.NOTSET)
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    logging.captureWarnings(capture=False)
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def record(
    message: str, *args: object, level: int = logging.INFO, fields: dict[str, object] | None = None
) -> logging.LogRecord:
    made = logging.LogRecord("dbclusterref", level, "file.py", 1, message, args, None)
    made.created = 1767614400.25
    if fields is not None:
        made.fields = fields
    return made


def test_a_json_line_has_time_level_message_and_fields() -> None:
    line = JsonFormatter().format(record("%s is ready", "orders", level=logging.WARNING, fields={"namespace": "shop"}))
    assert json.loads(line) == {
        "time": "2026-01-05T12:00:00.250+00:00",
        "level": "warning",
        "logger": "dbclusterref",
        "message": "orders is ready",
        "namespace": "shop",
    }


def test_a_json_line_is_one_line_whatever_the_message_holds() -> None:
    line = JsonFormatter().format(record('two\nlines "ö"'))
    assert "\n" not in line
    assert json.loads(line)["message"] == 'two\nlines "ö"'


def test_a_plain_line_is_one_line_whatever_the_message_holds(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(log_format="plain", level="info")
    # The type of a Secret may be any text, and so may the name of its owner.
    LOGGER.warning("Secret %s has the type %s.", "shop/x", "a\n2026-01-05T12:00:00+0000 ERROR   forged\r\x1b[2J\u2028ö")
    LOGGER.error("failed", exc_info=ValueError("of two\nlines"))
    lines = capsys.readouterr().err.split("\n")
    assert lines[0].endswith("type a\\n2026-01-05T12:00:00+0000 ERROR   forged\\r\\x1b[2J\\u2028ö.")
    assert lines[1].endswith("ERROR   failed")
    assert lines[2:] == ["ValueError: of two", "lines", ""], "a traceback has lines of its own"


def test_what_a_library_attaches_to_its_line_is_left_out() -> None:
    chatter = record("event")
    chatter.settings = object()
    chatter.body = {"data": {"password": "CANARY"}}
    line = JsonFormatter().format(chatter)
    assert "CANARY" not in line
    assert json.loads(line).keys() == {"time", "level", "logger", "message"}


def test_a_json_line_carries_the_traceback_where_there_is_one() -> None:
    failed = record("failed")
    try:
        json.loads("")
    except ValueError:
        failed.exc_info = sys.exc_info()
    line = JsonFormatter().format(failed)
    assert "\n" not in line
    assert "JSONDecodeError" in json.loads(line)["traceback"]
    assert "traceback" not in json.loads(JsonFormatter().format(record("fine")))


def test_plain_lines_go_to_standard_error_with_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(log_format="plain", level="info")
    LOGGER.info("shop/orders: Synced")
    out, err = capsys.readouterr()
    assert out == ""
    time, level, message = err.split(maxsplit=2)
    assert (time[4], level, message) == ("-", "INFO", "shop/orders: Synced\n")


def test_json_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(log_format="json", level="info")
    LOGGER.info("x", extra={"fields": {"reason": "Synced"}})
    out, err = capsys.readouterr()
    assert (out, json.loads(err)["reason"]) == ("", "Synced")


@pytest.mark.parametrize("level", LOG_LEVELS)
def test_what_is_below_the_level_is_not_written(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(log_format="plain", level=level)
    for each in LOG_LEVELS:
        LOGGER.log(logging.getLevelNamesMapping()[each.upper()], "at %s", each)
    written = [line.rsplit(maxsplit=1)[1] for line in capsys.readouterr().err.splitlines()]
    assert written == list(LOG_LEVELS[LOG_LEVELS.index(level) :])


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_are_heard_from_warnings_up_and_in_full_only_at_the_debug_level(
    library: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(log_format="plain", level="info")
    chatter = logging.getLogger(f"{library}.x")
    chatter.info("chatter")
    chatter.warning("trouble")
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == ["trouble"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_at_the_debug_level_libraries_are_heard(library: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(log_format="plain", level="debug")
    logging.getLogger(f"{library}.x").info("chatter")
    assert capsys.readouterr().err.endswith("chatter\n")


def test_configuring_twice_writes_once(capsys: pytest.CaptureFixture[str]) -> None:
    for log_format in LOG_FORMATS:
        configure_logging(log_format=log_format, level="info")
    LOGGER.info("once")
    assert capsys.readouterr().err.count("once") == 1


_PROGRAM = """
import warnings
from dbclusterref.commands.logs import configure_logging

class Broken:
    def __del__(self):
        raise ValueError("CANARY")

configure_logging(log_format="json", level="info")
Broken()
warnings.warn("a library's own\\nwords")
"""


def test_what_python_itself_writes_is_a_line_of_json_too() -> None:
    written = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True).stderr
    lines = [json.loads(line) for line in written.splitlines()]
    assert [line["logger"] for line in lines] == ["dbclusterref", "py.warnings"]
    assert lines[0]["message"] == "An exception in a finalizer was ignored: ValueError."
    assert "own\nwords" in lines[1]["message"]


def test_what_kopf_says_of_each_failed_try_is_left_to_the_informer(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(log_format="plain", level="info")
    logging.getLogger("kopf._cogs.clients.watching").error("failed; will retry")
    assert capsys.readouterr().err == ""
