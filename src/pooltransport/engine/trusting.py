"""Whom one transport trusts, as its files are now: the TLS contexts of new dials, and the end of older connections."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pooltransport.core.keys import Trust
from pooltransport.runtime.trust import ContextSource
from pooltransport.stats import CloseReason
from pooltransport.trust_files import client_cert_parts

if TYPE_CHECKING:
    from pooltransport.core.keys import ConnectKey
    from pooltransport.options import TransportOptions

    from .connection import Connection
    from .ledger import Ledger


class Trusted:
    """The contexts of one transport, and which connections were made with the one in force."""

    def __init__(self, options: TransportOptions, ledger: Ledger) -> None:
        self._source = ContextSource(options)
        self._ledger = ledger
        self._trusted: Any = None

    def context_of(self, key: ConnectKey) -> Any:
        """Return the TLS context that `key` stands for, as its files are now; made on first use."""
        assert key.trust is not None, "asked only for https"
        context = self._source.context()
        self._retire_outdated()
        return context

    def look(self) -> None:
        """Notice that the files of `ca_file` or `client_cert` changed, while nothing is dialed."""
        self._source.look(self._ledger.now())
        self._retire_outdated()

    def _retire_outdated(self) -> None:
        """Let connections go that were made by what the files were before (contract 5.7)."""
        current = self._source.current
        if current is self._trusted:
            return
        self._trusted = current
        for conn in self._ledger.open_conns():
            self.retire_if_outdated(conn)

    def retire_if_outdated(self, conn: Connection) -> None:
        """Give `conn` no new request if it was made with another context than is in force now."""
        if conn.context is not None and conn.context is not self._source.current:
            self._ledger.apply(self._ledger.pool.retire, conn, self._ledger.now(), CloseReason.TRUST_CHANGED)


def trust_of(options: TransportOptions) -> Trust:
    """Return the rules by which `options` have a server verified, as a value."""
    cert = client_cert_parts(options.client_cert)
    return Trust(
        options.ssl_context or "default",
        None if options.ca_file is None else os.fspath(options.ca_file),
        None if cert is None else cert[:2],
    )
