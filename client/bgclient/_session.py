"""What a client has open in this process: the transport, and what is served at its other end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bgclient import _retry
from bgclient._cancel import CLOSED, Cancel
from bgclient._endpoints import Endpoint, described
from bgclient._retry import Deadline
from bgclient._served import Served
from bgclient.errors import (
    CallCancelled,
    DeadlineExceeded,
    NetworkChanged,
    ServerBusy,
    ServerUnavailable,
    TransportError,
)
from bgclient.transports import Credentials, Transport

if TYPE_CHECKING:
    from bgclient.local import LocalNetwork

THIS_PROCESS = "this process"
"""In place of a server's address."""


class Session:
    """One client's transport in one process, and what is known of the servers."""

    transport: Any = None
    """Opened by the client."""
    served: Served | None = None
    """What is served, once a server has answered."""
    reached = False
    """True once a server has answered: from then on it is waited for until the deadline."""
    closed = False

    def __init__(
        self,
        endpoints: tuple[Endpoint, ...],
        credentials: Credentials,
        *,
        embedded: str | None = None,
        local: LocalNetwork | None = None,
    ) -> None:
        self.endpoints, self.credentials, self.local = endpoints, credentials, local
        self.server = THIS_PROCESS if local else described(endpoints)
        self._embedded = embedded
        self.reached = embedded is not None  # a photo has come back from it
        if local is not None:
            self.served = Served(local.contract, "network")

    def way(self, cancel: Cancel) -> Transport:
        """The transport. ``CallCancelled`` once the call was cancelled or the client closed."""
        cancel.check()
        if self.closed:
            raise CallCancelled(CLOSED)
        transport: Transport = self.transport
        return transport

    @property
    def outdated(self) -> bool:
        """True when it leads to an embedded server that gave up; calls on their way still end by themselves."""
        if self._embedded is None:
            return False
        from bgclient import embedded

        return not embedded.answers_at(self._embedded)

    def engines(self) -> str | None:
        """What runs the network, where this process knows better than the server's configuration."""
        if self._embedded is None:
            return None
        from bgclient import embedded

        return "; ".join(embedded.engines()) or None

    def pause_after(self, error: TransportError, tries: int, deadline: Deadline, *, retry: bool) -> float:
        """Seconds until the next try; raises the last word on ``error`` where there is none."""
        unreached = isinstance(error, ServerUnavailable) and not self.reached
        self.reached = self.reached or not unreached
        if isinstance(error, NetworkChanged | ServerUnavailable):
            self.served = None if self.local is None else self.served  # another server may answer next time
        left_s = deadline.left_s
        if unreached:
            left_s = min(left_s, _retry.FIRST_CONTACT_S - deadline.elapsed_s)
        pause_s = _retry.pause_s(error, tries, left_s) if retry else None
        if pause_s is None:
            raise _last_word(error, self.server, tries, deadline) from error
        return pause_s


def _last_word(error: TransportError, server: str, tries: int, deadline: Deadline) -> TransportError:
    """The error that the caller sees: what, which, after how long, and what next."""
    tried = f"{tries} {'try' if tries == 1 else 'tries'}"
    match error:
        case ServerUnavailable():
            return ServerUnavailable(
                f"{error} after {deadline.elapsed_s:.1f} s and {tried}; "
                'start one with "bgclient serve", or set BGCLIENT_URL to where one runs'
            )
        case ServerBusy():
            return ServerBusy(f"{error} ({tried} in {deadline.elapsed_s:.1f} s)")
        case DeadlineExceeded():
            return DeadlineExceeded(
                f"no answer from {server} within {deadline.timeout_s:g} s ({tried}); "
                'give a longer timeout_s, or see with "bgclient doctor" what takes so long'
            )
    return type(error)(str(error))
