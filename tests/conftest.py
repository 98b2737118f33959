"""What every level of the tests shares: no sockets unless a test says so, and hypothesis without a stopwatch."""

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None, print_blob=True)
# A fifth of the examples, for `make check`; every other run draws them all.
settings.register_profile("quick", settings.get_profile("house"), max_examples=settings.get_profile("house").max_examples // 5)
settings.load_profile("house")

MAY_OPEN_SOCKETS = ("sockets", "e2e", "clients", "node")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # asyncio wakes its own loop through a pair of Unix sockets.
    config.option.allow_unix_socket = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        allowed = any(item.get_closest_marker(name) for name in MAY_OPEN_SOCKETS)
        item.add_marker(pytest.mark.enable_socket if allowed else pytest.mark.disable_socket)
