"""Why a certificate may be revoked (RFC 5280 §5.3.1), by the words that are typed and kept."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "unspecified",
    "key-compromise",
    "affiliation-changed",
    "superseded",
    "cessation-of-operation",
    "privilege-withdrawn",
]
