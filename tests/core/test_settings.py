"""The settings, and the secrets among them."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from dataclasses import FrozenInstanceError, asdict, astuple, fields, is_dataclass
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.settings import ListenSettings, Secret, Settings, UpstreamSettings

#: A secret itself: a verbose traceback shows this module's globals, too.
CANARY = Secret(b"sk-canary-0123456789")


def settings() -> Settings:
    """Settings with secrets in both places."""
    return Settings(
        listen=ListenSettings(Path("server.pem"), CANARY, Path("ca.pem")),
        upstream=UpstreamSettings(api_key=CANARY),
    )


class SecretTests(SynchronousTestCase):
    """``Secret``."""

    @given(st.binary(min_size=4))
    def test_reveals_what_it_was_given(self, value: bytes) -> None:
        """Who asks for the value gets it, byte for byte."""
        self.assertEqual(Secret(value).reveal(), value)

    def test_is_masked_in_text(self) -> None:
        """No way of making text shows a secret, by itself or within the settings."""
        for value in (CANARY, [CANARY], settings(), settings().upstream):
            for text in (
                repr(value),
                str(value),
                f"{value}",
                f"{value!a}",
                "%s %r" % (value, value),  # noqa: UP031 - a way that logging takes
                "{} {!r}".format(value, value),  # noqa: UP032 - and twisted.logger
                json.dumps(value, default=repr),
                logging.Formatter().format(logging.LogRecord("n", 20, "p", 1, "%s", (value,), None)),
            ):
                self.assertNotIn(CANARY.reveal().decode(), text)

    def test_is_masked_when_taken_apart(self) -> None:
        """Settings turned into dicts and tuples keep their secrets masked."""
        self.assertNotIn(CANARY.reveal().decode(), repr(asdict(settings())))
        self.assertNotIn(CANARY.reveal().decode(), repr(astuple(settings())))

    def test_is_masked_in_tracebacks(self) -> None:
        """A traceback that shows local variables shows the mask."""
        secret, whole = CANARY, settings()
        try:
            raise ValueError(f"bad value {secret} in {whole}")
        except ValueError as error:
            shown = "".join(traceback.TracebackException(*sys.exc_info(), capture_locals=True).format())
            detailed = Failure(error, captureVars=True).getTraceback(detail="verbose")
        for text in (shown, detailed):
            self.assertIn("Secret('***')", text)
            self.assertNotIn(CANARY.reveal().decode(), text)

    def test_offers_no_text_by_accident(self) -> None:
        """A secret is neither bytes nor text, cannot be serialised by mistake, and shows nothing to ``vars``."""
        secret = CANARY
        self.assertRaises(TypeError, json.dumps, secret)
        self.assertRaises(TypeError, bytes, secret)
        self.assertRaises(TypeError, vars, secret)
        self.assertRaises(TypeError, len, secret)

    @given(st.binary(), st.binary())
    def test_equality(self, one: bytes, other: bytes) -> None:
        """Secrets are equal as their values are, and never to the value itself, so that a reload can tell a change."""
        self.assertEqual(Secret(one) == Secret(other), one == other)
        self.assertEqual(hash(Secret(one)), hash(Secret(one)))
        self.assertNotEqual(Secret(one), one)


class SettingsTests(SynchronousTestCase):
    """``Settings``."""

    def test_all_are_frozen(self) -> None:
        """No setting changes once it is made, in any section."""
        whole = settings()
        tables = {field.name: getattr(whole, field.name) for field in fields(whole)}
        sections = [whole, *(table for name, table in tables.items() if name not in ("tiers", "clients"))]
        self.assertEqual(len(sections), 12)
        for section in sections:
            self.assertTrue(is_dataclass(section))
            with self.assertRaises(FrozenInstanceError):
                setattr(section, fields(section)[0].name, None)

    def test_the_defaults_are_the_safe_ones(self) -> None:
        """Without a word, certificates are required, the key is ours, the organisation's administration is closed."""
        whole = settings()
        self.assertEqual(whole.listen.client_auth, "required")
        self.assertEqual(whole.upstream.authorization, "inject")
        self.assertEqual(whole.upstream.allow_paths, ("/v1/",))
        self.assertEqual(whole.upstream.deny_paths, ("/v1/organization/",))
        self.assertTrue(whole.upstream.url.startswith("https://"))
        self.assertTrue(whole.listen.address.startswith("127.0.0.1:"))
        self.assertEqual(whole.admin.address, "127.0.0.1:9464")

    def test_every_wait_is_bounded(self) -> None:
        """Every time-out has a default, and none of them waits for ever."""
        whole = settings()
        for section in (whole.listen, whole.upstream):
            for field in fields(section):
                if field.name.endswith("_timeout"):
                    self.assertTrue(0 < getattr(section, field.name) <= 600, field.name)
        self.assertEqual((whole.upstream.connect_timeout, whole.upstream.first_byte_timeout), (10.0, 600.0))

    def test_sections_are_not_shared(self) -> None:
        """Two settings with the same values are equal, whichever was made first."""
        self.assertEqual(settings(), settings())
        self.assertNotEqual(settings(), Settings(settings().listen, upstream=UpstreamSettings(api_key=Secret(b"x"))))
