"""The accounts in use, one for each distinct API token."""

from collections.abc import Callable
from functools import partial
from heapq import nlargest

from dbclusterref.digitalocean.account import Account
from dbclusterref.resource.objects import ObjectKey

MOST_IDLE = 100
"""Accounts that nobody reads through and that are kept all the same, those used last: who replaces a token again and again
would otherwise fill the memory."""


class Accounts:
    """The accounts in use, one per distinct token; tokens are the only key, and are never shown."""

    def __init__(self, make_account: Callable[[str], Account]) -> None:
        self._make_account = make_account
        self._by_token: dict[str, Account] = {}

    def of(self, token: str) -> Account:
        """Return the token's account; open it if there is none."""
        account = self._by_token.get(token)
        if account is None:
            account = self._by_token[token] = self._make_account(token)
        return account

    @property
    def slowdown(self) -> float:
        """The greatest slowdown of any token."""
        return max((account.slowdown for account in self._by_token.values()), default=1.0)

    def read_times(self) -> dict[str, float]:
        """Return when DigitalOcean last answered for each cluster, through whichever token."""
        latest: dict[str, float] = {}
        for account in self._by_token.values():
            for uuid, read_at in account.read_times():
                latest[uuid] = max(read_at, latest.get(uuid, read_at))
        return latest

    def keep_going(self) -> list[Exception]:
        """Make sure that every account's own task runs; return the unexpected exceptions since the last call."""
        for account in self._by_token.values():
            account.keep_going()
        return [bug for account in self._by_token.values() for bug in account.take_bugs()]

    def problems(self) -> list[str]:
        """Return a sentence for each account whose own task keeps dying."""
        return [problem for account in self._by_token.values() for problem in account.problems()]

    def drop_unused(self, *, since: float) -> None:
        """Drop accounts that nobody reads through any more: rotated tokens and what was read with them.

        Those used since then are kept for a while, so that their rate limit is remembered: MOST_IDLE of them.
        """
        idle = [token for token, account in self._by_token.items() if account.is_idle()]
        newest = set(nlargest(MOST_IDLE, idle, key=lambda token: self._by_token[token].used_at))
        for token in idle:
            if token not in newest or self._by_token[token].used_at < since:
                self._by_token.pop(token).close()

    def release(self, still_reads: Callable[[int, ObjectKey, str], bool]) -> None:
        """Stop reading for the references of which `still_reads` says that they do not, or no longer, read a cluster.

        It is called with a hash of the token, the reference and the cluster's UUID.
        """
        for token, account in self._by_token.items():
            account.release(partial(still_reads, hash(token)))
