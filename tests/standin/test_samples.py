"""Values that fit a JSON schema."""

from __future__ import annotations

import json
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.samples import sample_text


class Part(BaseModel):
    """A model inside another one, which a schema refers to."""

    name: str
    size: int
    ratio: float


class Thing(BaseModel):
    """What a user of structured output might declare."""

    kind: Literal["small", "large"]
    parts: list[Part]
    first: Part | None
    wanted: bool
    tags: dict[str, str]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "items", "enum", "anyOf", "$ref", "const", "minItems", "minimum", "x"]
            ),
            inner | st.sampled_from(["object", "array", "string", "#", "#/properties/x"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


class SampleTests(SynchronousTestCase):
    def test_fits_the_schema_of_a_model(self) -> None:
        """A schema as the SDKs make it, with references, gets a value that the model accepts."""
        thing = Thing.model_validate_json(sample_text(Thing.model_json_schema()))
        self.assertEqual((thing.kind, thing.wanted, len(thing.parts)), ("small", True, 1))

    def test_no_schema(self) -> None:
        """A function without parameters is called with none."""
        self.assertEqual(sample_text(None), "{}")

    def test_number_of_items(self) -> None:
        """An array has the items it must have, as far as that is sensible."""
        self.assertEqual(json.loads(sample_text({"type": "array", "minItems": 3, "items": {"const": 1}})), [1, 1, 1])
        self.assertEqual(len(json.loads(sample_text({"type": "array", "minItems": 10**9, "items": {"const": 1}}))), 16)

    def test_schema_of_itself_ends(self) -> None:
        """A schema that contains itself gets a finite value."""
        schema = {"type": "object", "properties": {"next": {"$ref": "#"}}}
        self.assertLess(len(sample_text(schema)), 1_000)
        sample_text({"$ref": "#"})
        many = {"type": "object", "properties": {str(number): {"$ref": "#"} for number in range(50)}}
        self.assertLess(len(sample_text(many)), 100_000)

    @given(ANYTHING)
    def test_anything_gives_json(self, schema: Any) -> None:
        """Whatever stands in the place of a schema, the text is JSON."""
        json.loads(sample_text(schema))
