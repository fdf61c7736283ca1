"""All groups of cases, in the order of the pages."""

from __future__ import annotations

from typing import Final

from tests.reliability import (
    claims,
    faithful_answers,
    faithful_requests,
    malformed_answers,
    malformed_framing,
    malformed_heads,
    refused_requests,
    upstream_faults,
)

GROUPS: Final = (
    faithful_requests.GROUP,
    faithful_answers.GROUP,
    claims.GROUP,
    malformed_framing.GROUP,
    malformed_heads.GROUP,
    refused_requests.GROUP,
    malformed_answers.GROUP,
    upstream_faults.GROUP,
)
