"""Images, seen with the SDK's own models."""

from __future__ import annotations

import base64
import zlib

from openai.types import ImageGenStreamEvent, ImagesResponse
from pydantic import TypeAdapter
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.images import PNG, edits, generations, variations
from openai_relay.standin.problems import Problem
from tests.standin.asking import call, events, form, unary

EVENT: TypeAdapter[ImageGenStreamEvent] = TypeAdapter(ImageGenStreamEvent)


class ImagesTests(SynchronousTestCase):
    def test_inline(self) -> None:
        """As many images as asked for, inline, with usage that adds up."""
        told = ImagesResponse.model_validate(unary(generations(call({"prompt": "A cat", "n": 2}))), strict=True)
        self.assertEqual([each.b64_json for each in told.data or []], [PNG, PNG])
        assert told.usage is not None
        self.assertEqual(told.usage.total_tokens, told.usage.input_tokens + told.usage.output_tokens)

    def test_by_url(self) -> None:
        """By URL, each image has its own, on a host that cannot exist."""
        told = unary(generations(call({"prompt": "A cat", "n": 2, "response_format": "url"})))
        urls = {each["url"] for each in told["data"]}
        self.assertEqual(len(urls), 2)
        self.assertTrue(all(url.startswith("https://images.invalid/") for url in urls))

    def test_picture_is_a_png(self) -> None:
        """The picture is one white pixel that a decoder accepts."""
        data = base64.b64decode(PNG)
        self.assertTrue(data.startswith(b"\x89PNG\r\n\x1a\n"))
        start = data.index(b"IDAT") + 4
        self.assertEqual(zlib.decompressobj().decompress(data[start:]), b"\0\xff")

    def test_events(self) -> None:
        """A streamed image comes in partial ones and ends completed, with usage."""
        request = {"prompt": "A cat", "stream": True, "partial_images": 2}
        told = [EVENT.validate_python(data) for _, data in events(generations(call(request)))]
        kinds = ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
        self.assertEqual([event.type for event in told], kinds)

    def test_edits_and_variations(self) -> None:
        """An uploaded image is edited or varied; without one the request is refused."""
        sent = form(("image", "a.png", b"x"), ("prompt", None, b"blue"), ("n", None, b"2"))
        for endpoint in (edits, variations):
            self.assertEqual(len(unary(endpoint(call(form=sent)))["data"]), 2)
            problem = self.assertRaises(Problem, endpoint, call(form=form(("prompt", None, b"blue"))))
            self.assertEqual((problem.status, problem.param), (400, "image"))
        several = form(("image[]", "a.png", b"x"), ("prompt", None, b"blue"))
        self.assertEqual(len(unary(edits(call(form=several)))["data"]), 1)

    def test_wrong_requests(self) -> None:
        """A number of images that the API would not make is refused by name."""
        problem = self.assertRaises(Problem, generations, call({"prompt": "A cat", "n": 11}))
        self.assertEqual((problem.status, problem.param), (400, "n"))
