"""Send no session tickets, in TLS 1.3 either: nobody may resume what a certificate has begun."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

#: Where OpenSSL looks for its configuration.
VARIABLE: Final = "OPENSSL_CONF"
CONFIGURATION: Final = Path(__file__).with_name("openssl.cnf")


def send_none(environment: MutableMapping[str, str]) -> None:
    """
    Have OpenSSL send none, whoever makes its contexts; to be called before OpenSSL is loaded.

    ``OP_NO_TICKET`` only makes TLS 1.3's tickets useless, and pyOpenSSL cannot set their number.  A
    configuration that the operator has chosen is left alone: ``NumTickets = 0`` belongs there, then.
    """
    environment.setdefault(VARIABLE, str(CONFIGURATION))
