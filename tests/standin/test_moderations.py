"""Moderations, seen with the SDK's own model."""

from __future__ import annotations

from openai.types import ModerationCreateResponse
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.moderations import moderations
from tests.standin.asking import call, unary


class ModerationsTests(SynchronousTestCase):
    def test_satisfies_the_sdk(self) -> None:
        """One result for each text; a text about violence is flagged for it and for nothing else."""
        told = unary(moderations(call({"input": ["kind words", "VIOLENCE!"]})))
        kind, violent = ModerationCreateResponse.model_validate(told, strict=True).results
        self.assertEqual((kind.flagged, violent.flagged), (False, True))
        self.assertEqual((violent.categories.violence, violent.categories.hate), (True, False))

    def test_parts(self) -> None:
        """A list of parts is one input."""
        told = unary(moderations(call({"input": [{"type": "text", "text": "violence"}, {"type": "image_url"}]})))
        self.assertEqual([each["flagged"] for each in told["results"]], [True])
