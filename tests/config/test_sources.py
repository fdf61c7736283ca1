"""Files and secrets that a configuration points at."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from openai_relay.config.problems import Wrong
from openai_relay.config.sources import LARGEST_FILE, Sources, read_file
from openai_relay.core.settings import Secret

FORMS = ("file:", "env:", "credential:")


class SourcesCase(SynchronousTestCase):
    """Has a directory, and an environment of its own."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.environment: dict[str, str] = {}
        self.sources = Sources(self.directory, self.environment)

    def write(self, name: str, contents: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(contents)
        return path


class FileTests(SourcesCase):
    """What can be opened, and what is said of what cannot."""

    def test_relative_to_the_configuration(self) -> None:
        """A relative path starts at the configuration's directory; an absolute one stands."""
        path = self.write("ca.pem", b"x")
        self.assertEqual(self.sources.existing_file("ca.pem"), path)
        self.assertEqual(Sources(Path("/nowhere"), {}).existing_file(str(path)), path)

    def test_missing(self) -> None:
        """A file that does not exist is named with its whole path."""
        wrong = self.assertRaises(Wrong, self.sources.existing_file, "none.pem")
        self.assertIn(f'"{self.directory}/none.pem" does not exist', str(wrong))

    def test_not_a_file(self) -> None:
        """A directory or a pipe, which could block for ever, is no file; neither is nothing."""
        os.mkfifo(self.directory / "pipe")
        for name in (".", "pipe", "/dev/null"):
            self.assertIn("no regular file", str(self.assertRaises(Wrong, self.sources.existing_file, name)))
        self.assertIn("names no file", str(self.assertRaises(Wrong, self.sources.existing_file, "")))
        self.assertIn("must be text", str(self.assertRaises(Wrong, self.sources.existing_file, 1)))

    def test_lists(self) -> None:
        """Lists may be a file, or a directory that can be read; nothing else."""
        path = self.write("crl.pem", b"x")
        self.assertEqual(self.sources.existing_lists("crl.pem"), path)
        self.assertEqual(self.sources.existing_lists("."), self.directory)
        for name in ("lists", "a" * 5_000):
            self.assertRaises(Wrong, self.sources.existing_lists, name)
        os.mkfifo(self.directory / "pipe")
        self.assertIn("no regular file", str(self.assertRaises(Wrong, self.sources.existing_lists, "pipe")))

    def test_not_a_path(self) -> None:
        """What no file can be called is refused in words, too."""
        self.write("server.pem", b"x")
        for name in ("a\0b", "server.pem/x"):
            self.assertIn("does not exist", str(self.assertRaises(Wrong, self.sources.existing_file, name)))
        wrong = self.assertRaises(Wrong, self.sources.existing_file, "a" * 5_000)
        self.assertIn("cannot be read (File name too long)", str(wrong))

    def test_unreadable(self) -> None:
        """A file without permission to read is named with the reason."""
        path = self.write("ca.pem", b"x")
        path.chmod(0)
        if os.access(path, os.R_OK):
            raise SkipTest("this user may read everything")
        wrong = self.assertRaises(Wrong, self.sources.existing_file, "ca.pem")
        self.assertIn("cannot be read (Permission denied)", str(wrong))

    def test_too_large(self) -> None:
        """A file that can only be the wrong one does not fill the memory."""
        path = self.write("big", b"x" * (LARGEST_FILE + 1))
        self.assertIn("larger than", str(self.assertRaises(Wrong, read_file, path)))
        path.write_bytes(b"x" * LARGEST_FILE)
        self.assertEqual(len(read_file(path)), LARGEST_FILE)


class SecretTests(SourcesCase):
    """Where secrets come from, and that they are not repeated."""

    def test_three_places(self) -> None:
        """A secret is found in a file, in the environment, or among systemd's credentials."""
        self.write("openai.key", b"from-file")
        (self.directory / "credentials").mkdir()
        self.write("credentials/openai", b"from-systemd")
        self.environment.update(KEY="from-environment", CREDENTIALS_DIRECTORY=str(self.directory / "credentials"))
        for where, secret in (
            ("file:openai.key", b"from-file"),
            ("env:KEY", b"from-environment"),
            ("credential:openai", b"from-systemd"),
        ):
            self.assertEqual(self.sources.api_key(where), Secret(secret))
            self.assertEqual(self.sources.key(where), Secret(secret))

    def test_line_end(self) -> None:
        """The line end after an API key is not part of it; a private key is kept byte for byte."""
        for end in (b"\n", b"\r\n", b"\n\n"):
            self.write("k", b"secret" + end)
            self.assertEqual(self.sources.api_key("file:k").reveal(), b"secret")
            self.assertEqual(self.sources.key("file:k").reveal(), b"secret" + end)

    def test_unsendable_api_key(self) -> None:
        """A key with a space, a control character or a letter beyond ASCII is refused, and not repeated."""
        for contents in (b"hidden key", b"hidden\nkey", b"hidden\tkey", b"hidden\x00", b" hidden", "hiddén".encode()):
            self.write("k", contents)
            message = str(self.assertRaises(Wrong, self.sources.api_key, "file:k"))
            self.assertIn("holds a space, a control character", message)
            self.assertNotIn("hidd", message)

    def test_empty(self) -> None:
        """A place that holds nothing is refused, in each form."""
        self.write("k", b" \n")
        self.environment["KEY"] = ""
        for where in ("file:k", "env:KEY"):
            self.assertIn("is empty", str(self.assertRaises(Wrong, self.sources.api_key, where)))

    def test_missing_variable(self) -> None:
        """A variable that is not set is named; what cannot be one is not, since it may be the key."""
        message = str(self.assertRaises(Wrong, self.sources.api_key, "env:OPENAI_API_KEY"))
        self.assertIn("variable OPENAI_API_KEY is not set", message)
        for pasted in ("env:sk-pasted-key", "env:", "env:pastedkey"):
            message = str(self.assertRaises(Wrong, self.sources.api_key, pasted))
            self.assertNotIn("pasted", message)

    def test_missing_credential(self) -> None:
        """Without systemd the message says so; with it, the missing file is named."""
        message = str(self.assertRaises(Wrong, self.sources.key, "credential:server.key"))
        self.assertIn("LoadCredential=server.key:", message)
        self.environment["CREDENTIALS_DIRECTORY"] = str(self.directory)
        message = str(self.assertRaises(Wrong, self.sources.key, "credential:server.key"))
        self.assertIn(f"{self.directory}/server.key", message)

    def test_key_in_place_of_a_name(self) -> None:
        """A key that was pasted where the credential's name belongs is not repeated."""
        message = str(self.assertRaises(Wrong, self.sources.key, "credential:sk-proj-abcdef"))
        self.assertIn("LoadCredential=NAME:", message)
        self.assertNotIn("abcdef", message)

    def test_credential_is_a_name(self) -> None:
        """A credential cannot lead out of its directory."""
        self.environment["CREDENTIALS_DIRECTORY"] = str(self.directory)
        for name in ("", ".", "..", "../k", "a/b", "/etc/passwd"):
            message = str(self.assertRaises(Wrong, self.sources.key, f"credential:{name}"))
            self.assertIn("not followed by the name of a credential", message)

    def test_missing_file(self) -> None:
        """A file that does not exist is named with its whole path."""
        message = str(self.assertRaises(Wrong, self.sources.key, "file:none.key"))
        self.assertIn(f"{self.directory}/none.key", message)
        self.assertIn("names no file", str(self.assertRaises(Wrong, self.sources.key, "file:")))

    @settings(deadline=None)
    @given(st.text(min_size=6).filter(lambda text: not text.startswith(FORMS)))
    def test_inline_is_refused(self, secret: str) -> None:
        """A value that is not one of the three forms is refused without a trace of it."""
        message = str(self.assertRaises(Wrong, self.sources.api_key, f"={secret}="))
        self.assertIn('write "file:PATH", "env:NAME" or "credential:NAME"', message)
        self.assertNotIn(f"={secret}=", message)

    def test_other_types(self) -> None:
        """A number or a list is no place of a secret."""
        for value in (1, True, ["file:k"], {"file": "k"}):
            self.assertIn("must say where", str(self.assertRaises(Wrong, self.sources.api_key, value)))
