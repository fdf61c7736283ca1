"""From a TOML document to settings: every key, every unknown key, every contradiction."""

from __future__ import annotations

from dataclasses import fields

from openai_relay.config.shape import rules, tables
from openai_relay.config.sources import Sources
from openai_relay.core.settings import (
    AdminSettings,
    IdentitySettings,
    LimitSettings,
    LogSettings,
    Secret,
    UpstreamSettings,
)
from tests.config.case import LISTEN, MINIMAL, UPSTREAM, ConfigurationCase


class SettingsTests(ConfigurationCase):
    """What a right configuration becomes."""

    def test_minimal(self) -> None:
        """Three files and a key are enough; all else is as the settings have it."""
        settings = self.read(MINIMAL)
        self.assertEqual(settings.listen.certificate, self.directory / "server.pem")
        self.assertEqual(settings.listen.key, Secret(b"the contents of server.key\n"))
        self.assertEqual(settings.upstream, UpstreamSettings(api_key=Secret(b"a-key")))
        self.assertEqual(
            (settings.identity, settings.limits, settings.log, settings.admin),
            (IdentitySettings(), LimitSettings(), LogSettings(), AdminSettings()),
        )

    def test_every_key(self) -> None:
        """Each key of each table arrives where it belongs."""
        settings = self.read(
            LISTEN
            + """
            address = "systemd:https"
            crl = "ca.pem"
            client_auth = "optional"
            backlog = 1
            handshake_timeout = 2
            head_timeout = 3.5
            idle_timeout = 4
            stall_timeout = 5
            max_head = 2048
            max_connections = 6
            max_connections_per_identity = 7
            [identity]
            name = "email"
            limit_by = "name"
            [upstream]
            url = "https://localhost:9443/"
            ca = "ca.pem"
            authorization = "passthrough"
            organization = "org-a"
            project = "proj_b"
            allow_paths = ["/v1/", "/v2/"]
            deny_paths = []
            connect_timeout = 8
            first_byte_timeout = 9
            idle_timeout = 10
            keepalive_timeout = 11
            max_idle_connections = 0
            [limits]
            requests_per_minute = 0.5
            burst = 12
            concurrent = 13
            [log]
            format = "combined"
            [admin]
            address = false
            """
        )
        listen, upstream = settings.listen, settings.upstream
        self.assertEqual(
            (listen.address, listen.crl, listen.client_auth), ("systemd:https", listen.client_ca, "optional")
        )
        self.assertEqual((listen.backlog, listen.handshake_timeout, listen.head_timeout), (1, 2.0, 3.5))
        self.assertEqual((listen.idle_timeout, listen.stall_timeout, listen.max_head), (4.0, 5.0, 2048))
        self.assertEqual((listen.max_connections, listen.max_connections_per_identity), (6, 7))
        self.assertEqual(settings.identity, IdentitySettings("email", "name"))
        self.assertEqual(
            upstream,
            UpstreamSettings(
                url="https://localhost:9443",
                ca=self.directory / "ca.pem",
                authorization="passthrough",
                organization="org-a",
                project="proj_b",
                allow_paths=("/v1/", "/v2/"),
                deny_paths=(),
                connect_timeout=8.0,
                first_byte_timeout=9.0,
                idle_timeout=10.0,
                keepalive_timeout=11.0,
                max_idle_connections=0,
            ),
        )
        self.assertEqual(settings.limits, LimitSettings(0.5, 12, 13))
        self.assertEqual((settings.log, settings.admin), (LogSettings("combined"), AdminSettings(None)))

    def test_every_key_has_a_rule(self) -> None:
        """No key of the settings is taken unchecked, and no rule is left over."""
        checked = {kind: set(keys) for kind, keys in rules(Sources(self.directory, {})).items()}
        self.assertEqual(checked, {kind: {field.name for field in fields(kind)} for kind in tables().values()})

    def test_secrets_do_not_show(self) -> None:
        """The settings can be printed: neither key is in their text."""
        printed = repr(self.read(MINIMAL))
        self.assertNotIn("a-key", printed)
        self.assertNotIn("the contents of", printed)


class MissingTests(ConfigurationCase):
    """What must be there."""

    def test_required_keys(self) -> None:
        """Each missing key is said, at its table, or at the first line when there is no table."""
        self.assertComplaint(
            "\n[listen]\n" + UPSTREAM,
            "FILE:2: listen.certificate: is missing",
            "FILE:2: listen.key: is missing",
            "FILE:2: listen.client_ca: is missing",
        )
        self.assertComplaint(
            UPSTREAM,
            "FILE:1: listen.certificate: is missing",
            "FILE:1: listen.key: is missing",
            "FILE:1: listen.client_ca: is missing",
        )

    def test_api_key(self) -> None:
        """A key that is to be injected must be somewhere; the message shows how to say where."""
        self.assertComplaint(LISTEN, 'FILE:1: upstream.api_key: is missing; say where the key is, for example "env:')
        self.assertComplaint(LISTEN + "[upstream]\nauthorization = 'inject'", "FILE:5: upstream.api_key: is missing")

    def test_missing_files(self) -> None:
        """Files that do not exist are named with line, key and path."""
        text = MINIMAL.replace('"ca.pem"', '"no/ca.pem"').replace("file:server.key", "file:no.key")
        self.assertComplaint(
            text,
            f'FILE:3: listen.key: "{self.directory}/no.key" does not exist',
            f'FILE:4: listen.client_ca: "{self.directory}/no/ca.pem" does not exist',
        )


class UnknownTests(ConfigurationCase):
    """Names that are no keys."""

    def test_suggestion(self) -> None:
        """A slip in a key or a table is answered with what was probably meant."""
        self.assertComplaint(
            LISTEN + "adress = 'x'\n" + UPSTREAM, 'FILE:5: listen.adress: is not known; did you mean "address"?'
        )
        self.assertComplaint(MINIMAL + "[limit]\nburst = 1", "FILE:7: limit: is not known; did you mean [limits]?")

    def test_misplaced(self) -> None:
        """A key under the wrong table, or under none, is told where it belongs."""
        self.assertComplaint(
            MINIMAL + "burst = 1", "FILE:7: upstream.burst: does not belong here; put it under [limits]"
        )
        self.assertComplaint(
            "idle_timeout = 1\n" + MINIMAL,
            "FILE:1: idle_timeout: does not belong here; put it under [listen] or [upstream]",
        )

    def test_foreign(self) -> None:
        """A key like no other is answered with those that there are."""
        self.assertComplaint(
            MINIMAL + "[admin]\nxyzzy = 1", "FILE:8: admin.xyzzy: is not known; take it out ([admin] takes address)"
        )
        self.assertComplaint(
            MINIMAL + "[xyzzy]", "FILE:7: xyzzy: is not known; take it out (the tables are listen, identity"
        )

    def test_names_are_printable(self) -> None:
        """A name that would move the cursor is printed escaped."""
        self.assertComplaint('"\\u001b[2J" = 1\n' + MINIMAL, "FILE:1: '\\x1b[2J': is not known")


class WrongTests(ConfigurationCase):
    """Values that do not fit."""

    def test_all_at_once(self) -> None:
        """Everything that is wrong is said in one go, in the order of the file."""
        self.assertComplaint(
            LISTEN
            + "client_auth = 'requird'\nhead_timeout = -1\nmax_head = true\naddress = 8443\n"
            + "[upstream]\nurl = 'http://a'\napi_key = 'hidden'\nallow_paths = ['/v1/',\n 'v2']\n"
            + "[limits]\nburst = 0\n[log]\nformat = 'xml'\n[admin]\naddress = 'x'\n",
            'FILE:5: listen.client_auth: "requird" is not known; did you mean "required"?',
            "FILE:6: listen.head_timeout: -1 is no time-out",
            "FILE:7: listen.max_head: must be a whole number",
            "FILE:8: listen.address: must be text",
            "FILE:10: upstream.url: must begin with https://",
            "FILE:11: upstream.api_key: must say where the secret is, and not hold it",
            'FILE:13: upstream.allow_paths[2]: "v2" does not begin',
            "FILE:15: limits.burst: needs a rate",
            "FILE:15: limits.burst: 0 is out of range",
            'FILE:17: log.format: "xml" is not known',
            'FILE:19: admin.address: "x" lacks',
        )

    def test_not_a_table(self) -> None:
        """A value, or a list of tables, in a table's place is refused."""
        self.assertComplaint("limits = 3\n" + MINIMAL, "FILE:1: limits: must be a table, and this is a whole number")
        self.assertComplaint(MINIMAL + "[[limits]]\n", "FILE:7: limits: must be a table, and this is a list")
        self.assertComplaint("upstream = 1\n" + LISTEN, "FILE:1: upstream: must be a table")

    def test_tables_in_every_form(self) -> None:
        """The place is right when a table is written inline or with dots."""
        self.assertComplaint(MINIMAL + "[limits]\na.b = 1", "FILE:8: limits.a: is not known")
        self.assertComplaint("log = { format = 1 }\n" + MINIMAL, "FILE:1: log.format: must be text")
        self.assertComplaint("\nlog.format = 1\n" + MINIMAL, "FILE:2: log.format: must be text")


class ContradictionTests(ConfigurationCase):
    """Values that are right alone and wrong together."""

    def test_passthrough_with_a_key(self) -> None:
        """A key that would never be sent is refused, and why is said."""
        self.assertComplaint(MINIMAL + 'authorization = "passthrough"', "FILE:6: upstream.api_key: would never be sent")

    def test_burst_without_rate(self) -> None:
        """A burst is a burst of something."""
        self.assertComplaint(MINIMAL + "[limits]\nburst = 3", "FILE:8: limits.burst: needs a rate")

    def test_same_address(self) -> None:
        """Clients and admin cannot share a port; the key that was set is the one that is named."""
        here = 'address = "127.0.0.1:9464"\n'
        there = 'address = "127.0.0.1:8443"\n'
        self.assertComplaint(LISTEN + here + UPSTREAM, "FILE:5: listen.address: is where the admin listener is")
        self.assertComplaint(MINIMAL + "[admin]\n" + there, "FILE:8: admin.address: is the same as listen.address")
        anywhere = 'address = "127.0.0.1:0"\n'
        self.assertComplaint(LISTEN + anywhere + UPSTREAM + "[admin]\n" + anywhere)

    def test_nothing_allowed(self) -> None:
        """A list of refused paths that covers all that is allowed is refused; the key that was set is named."""
        self.assertComplaint(MINIMAL + 'deny_paths = ["/v1"]', "FILE:7: upstream.deny_paths: refuses all")
        self.assertComplaint(
            MINIMAL + 'allow_paths = ["/v1/organization/users"]',
            "FILE:7: upstream.allow_paths: lets through only what deny_paths refuses (/v1/organization/)",
        )
