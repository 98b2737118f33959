import re

from dbclusterref.metrics import Metrics


def test_every_metric_has_our_prefix_and_a_help_text() -> None:
    shown = Metrics().render().decode()
    helped = dict(re.findall(r"^# HELP (\S+) (.+)$", shown, re.MULTILINE))
    ours = {name for name in helped if not name.startswith(("process_", "python_"))}
    assert ours
    assert [name for name in ours if not name.startswith("dbclusterref_")] == []
    assert [name for name in ours if not helped[name].endswith(".")] == []


def test_two_registries_do_not_share_counts() -> None:
    one, other = Metrics(), Metrics()
    one.bugs.inc()
    assert one.registry.get_sample_value("dbclusterref_unexpected_errors_total") == 1
    assert other.registry.get_sample_value("dbclusterref_unexpected_errors_total") == 0
