"""What tests of the tools share."""

import pytest


@pytest.fixture
def without_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of pytest that a test starts need no plugin, and start in half the time without."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
