"""Certificate files in a directory of their own, for the tests of what reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.config.sources import Sources
from openai_relay.connect.certificate import CertificateFiles
from openai_relay.core.connect_settings import ConnectSettings, Listen
from tests.authority.directories import new_directory
from tests.certificates import Credential, authority, client


class FilesCase(SynchronousTestCase):
    """A directory with ``phone.pem``, ``phone.key`` and ``ca.pem``, and settings that name them."""

    def setUp(self) -> None:
        self.directory = new_directory(self)
        self.write(client("alice"))
        self.file("ca.pem").write_bytes(authority().pem)
        self.settings = ConnectSettings(
            "https://relay.example:8443",
            Path("phone.pem"),
            "file:phone.key",
            Path("ca.pem"),
            listen=Listen("127.0.0.1", 0),
        )
        self.sources = Sources(self.directory, {})

    def file(self, name: str) -> Path:
        return self.directory / name

    def write(self, credential: Credential) -> None:
        credential.write(self.directory, "phone")

    def files(self, **changed: Any) -> CertificateFiles:
        return CertificateFiles(replace(self.settings, **changed), self.sources)
