"""The models there are."""

from __future__ import annotations

from openai.types import Model
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.answer import Call
from openai_relay.standin.controls import Controls
from openai_relay.standin.models import MODELS, model, models
from openai_relay.standin.problems import Problem
from tests.standin.asking import NOW, unary


def named(name: str) -> Call:
    return Call(Controls(), 1, NOW, parameter=name)


class ModelsTests(SynchronousTestCase):
    def test_list(self) -> None:
        """The list passes the SDK's own model."""
        told = unary(models(named("")))
        self.assertEqual(told["object"], "list")
        self.assertEqual([Model.model_validate(each, strict=True).id for each in told["data"]], list(MODELS))

    def test_one(self) -> None:
        """Each model of the list can be asked for, and so can one's own."""
        for name in (*MODELS, "ft:gpt-4o-mini:acme::abc123"):
            self.assertEqual(unary(model(named(name)))["id"], name)

    def test_none(self) -> None:
        """What is not named like a model is 404 with the API's code."""
        problem = self.assertRaises(Problem, model, named("llama"))
        self.assertEqual((problem.status, problem.code, problem.param), (404, "model_not_found", "model"))
