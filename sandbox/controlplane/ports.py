"""Ports of the loopback interface that stay ours while nothing listens on them."""

import socket
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"


class ReservedPort:
    """Holds a port from now until `release`, for a server that binds it with SO_REUSEPORT as well.

    Asking the kernel for a free port, closing the socket and handing the number to a program is a race: anybody may take it in
    between. A socket that stays bound but never listens keeps others away (the kernel gives the port to no other socket that
    asks for any free one), takes no connection from the server, and lets the server go and come back on the same port.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((LOOPBACK, 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Lets anybody have the port again."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.release()
