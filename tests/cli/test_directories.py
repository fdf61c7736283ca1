"""Where the commands look."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import Authority
from openai_relay.cli.directories import authority_directory, configuration_file, relay_url
from tests.authority.directories import new_directory
from tests.cli.commands import typed


class PlaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(new_directory(self))

    def test_authority(self) -> None:
        """The authority is where it is said to be, else here if there is one, else in ./openai-relay."""
        self.assertEqual(authority_directory(Path("x")), Path("x"))
        self.assertEqual(authority_directory(None), Path("openai-relay"))
        Authority.create(Path())
        self.assertEqual(authority_directory(None), Path())

    def test_environment(self) -> None:
        """OPENAI_RELAY_DIR stands for --dir."""
        Authority.create(Path("elsewhere"))
        self.assertEqual(typed("cert", "list").exit_code, 1)
        self.assertEqual(typed("cert", "list", environment={"OPENAI_RELAY_DIR": "elsewhere"}).exit_code, 0)

    def test_configuration(self) -> None:
        """The configuration is where it is said to be, else ./relay.toml if there is one, else what init made."""
        self.assertEqual(configuration_file(Path("x.toml")), Path("x.toml"))
        self.assertEqual(configuration_file(None), Path("openai-relay/relay.toml"))
        Path("relay.toml").write_text("")
        self.assertEqual(configuration_file(None), Path("relay.toml"))


class RelayUrlTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self)
        self.authority = Authority.create(self.directory)

    def url(self, configuration: str | None = None) -> str:
        if configuration is not None:
            (self.directory / "relay.toml").write_text(configuration)
        return relay_url(self.directory, self.authority.issued())

    def test_usual(self) -> None:
        """Without a server certificate and a configuration the relay is where a demo has it."""
        self.assertEqual(self.url(), "https://localhost:8443")

    def test_newest_server(self) -> None:
        """The host is the first name of the newest server certificate that a client can use as it is."""
        self.authority.issue_server(["old.example.org"])
        self.authority.issue_server(["*.example.org", "relay.example.org"])
        self.assertEqual(self.url(), "https://relay.example.org:8443")
        self.authority.issue_server(["::1"], stem="six")
        self.assertEqual(self.url(), "https://[::1]:8443")
        self.authority.revoke("::1")
        self.assertEqual(self.url(), "https://relay.example.org:8443")

    def test_port(self) -> None:
        """The port is the configuration's; a configuration that is broken does not matter here."""
        self.assertEqual(self.url('[listen]\naddress = "[::]:443"'), "https://localhost:443")
        for broken in ("[listen", "", "[listen]\naddress = 7", '[listen]\naddress = "systemd:https"', "listen = 1"):
            self.assertEqual(self.url(broken), "https://localhost:8443")
