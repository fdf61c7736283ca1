"""From a TOML document to settings: every key, every unknown key, every contradiction."""

from __future__ import annotations

from dataclasses import fields
from zoneinfo import ZoneInfo

from openai_relay.config.accounts import BudgetTable, RulesTable
from openai_relay.config.shape import rules, tables
from openai_relay.config.sources import Sources
from openai_relay.core.policy import QuotaRules
from openai_relay.core.prices import Price
from openai_relay.core.settings import (
    AdminSettings,
    IdentitySettings,
    LedgerSettings,
    LimitSettings,
    LogSettings,
    Secret,
    StateSettings,
    UpstreamSettings,
)
from tests.config.case import LISTEN, MINIMAL, PRICES, UPSTREAM, ConfigurationCase


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
        (self.directory / "prices.toml").write_text(PRICES)
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
            include_usage = false
            connect_timeout = 8
            first_byte_timeout = 9
            idle_timeout = 10
            keepalive_timeout = 11
            max_idle_connections = 0
            [limits]
            requests_per_minute = 0.5
            burst = 12
            concurrent = 13
            tokens_per_minute = 1000
            token_burst = 500
            max_wait = 2.5
            max_queue = 3
            shadow = true
            expected_output = 14
            [accounting]
            prices = "prices.toml"
            time_zone = "Europe/Berlin"
            [state]
            directory = "kept/here"
            [ledger]
            enabled = false
            database = "rows.db"
            retention_days = 0
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
                include_usage=False,
                connect_timeout=8.0,
                first_byte_timeout=9.0,
                idle_timeout=10.0,
                keepalive_timeout=11.0,
                max_idle_connections=0,
            ),
        )
        self.assertEqual(settings.limits, LimitSettings(0.5, 12, 13, 1000.0, 500, 2.5, 3, True, 14))
        self.assertEqual(settings.accounting.prices.quote("m").price, Price(input=2_000_000))
        self.assertEqual(settings.accounting.time_zone, ZoneInfo("Europe/Berlin"))
        self.assertEqual(settings.state, StateSettings(self.directory / "kept" / "here"))
        self.assertEqual(settings.ledger, LedgerSettings(False, self.directory / "rows.db", None))
        self.assertEqual((settings.log, settings.admin), (LogSettings("combined"), AdminSettings(None)))

    def test_every_key_has_a_rule(self) -> None:
        """No key of the settings is taken unchecked, and no rule is left over."""
        checked = {kind: set(keys) for kind, keys in rules(Sources(self.directory, {})).items()}
        kinds = (*tables().values(), RulesTable, BudgetTable, QuotaRules)
        self.assertEqual(checked, {kind: {field.name for field in fields(kind)} for kind in kinds})

    def test_defaults_of_the_accounting(self) -> None:
        """State and ledger are beside the file, and the prices are those that are shipped."""
        settings = self.read(MINIMAL)
        self.assertEqual(settings.state.directory, self.directory / "state")
        self.assertEqual(settings.ledger.database, self.directory / "state" / "ledger.sqlite3")
        self.assertTrue(settings.accounting.prices.quote("gpt-5.4").known)
        self.assertFalse((self.directory / "state").exists())

    def test_no_state(self) -> None:
        """Without a directory for the state there is a ledger only where one is named."""
        nowhere = '[state]\ndirectory = ""\n'
        self.assertEqual(self.read(MINIMAL + nowhere).state.directory, None)
        self.assertEqual(self.read(MINIMAL + nowhere).ledger.database, None)
        named = self.read(MINIMAL + nowhere + '[ledger]\ndatabase = "/var/rows.db"\n').ledger.database
        self.assertEqual(str(named), "/var/rows.db")

    def test_other_keys(self) -> None:
        """Further API keys are secrets by name, in a table of their own or on a line."""
        for text in ('keys = { "a b" = "env:OPENAI_API_KEY" }', '[upstream.keys]\n"a b" = "env:OPENAI_API_KEY"'):
            settings = self.read(MINIMAL + text)
            self.assertEqual(settings.upstream.keys, {"a b": Secret(b"a-key")})
            self.assertNotIn("a-key", repr(settings))

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
        self.assertComplaint(
            MINIMAL + "[limits]\ntoken_burst = 3",
            "FILE:8: limits.token_burst: needs a rate to be a burst of; set tokens_per_minute too",
        )

    def test_waiting(self) -> None:
        """Neither a wait without a queue nor a queue without a wait is taken; the key that was set is named."""
        for line in ("max_wait = 1", "max_queue = 1"):
            self.assertComplaint(
                MINIMAL + f"[limits]\n{line}",
                f"FILE:8: limits.{line[:-4]}: max_wait and max_queue go together; set both, or neither",
            )

    def test_unlimited_is_for_accounts(self) -> None:
        """Where nothing stands behind, there is no limit to lift."""
        self.assertComplaint(
            MINIMAL + '[limits]\nconcurrent = "unlimited"', "FILE:8: limits.concurrent: must be a whole number"
        )

    def test_time_zone(self) -> None:
        """A zone that nobody knows is answered with the nearest."""
        self.assertComplaint(
            MINIMAL + '[accounting]\ntime_zone = "europe/berln"',
            'FILE:8: accounting.time_zone: "europe/berln" is no time zone that this machine knows; '
            'did you mean "Europe/Berlin"?',
        )

    def test_bad_prices(self) -> None:
        """What is wrong with a table of prices is said with its own file and line, after what is wrong here."""
        (self.directory / "prices.toml").write_text(PRICES + '[models."a*"]\ninput = -1\n')
        self.assertComplaint(
            MINIMAL + '[accounting]\nprices = "prices.toml"\n[log]\nformat = 1',
            "FILE:10: log.format: must be text",
            f'{self.directory}/prices.toml:7: models."a*".input: must be dollars from 0 to 100000',
        )
        self.assertComplaint(
            MINIMAL + '[accounting]\nprices = "none.toml"',
            f'FILE:8: accounting.prices: "{self.directory}/none.toml" does not exist',
        )

    def test_keys_that_are_wrong(self) -> None:
        """Each further API key that is missing is told by its name, and one that is pasted is not repeated."""
        self.assertComplaint(
            MINIMAL + '[upstream.keys]\na = "env:NONE"\nb = "sk-hidden"\n',
            "FILE:8: upstream.keys.a: the environment variable NONE is not set",
            "FILE:9: upstream.keys.b: must say where the secret is, and not hold it",
        )
        self.assertComplaint(MINIMAL + "keys = 3", "FILE:7: upstream.keys: must be a table of keys by name")
        self.assertComplaint(MINIMAL + 'keys = { "" = "env:A" }', "FILE:7: upstream.keys: has a key without a name")
        self.assertComplaint(
            LISTEN + '[upstream]\nauthorization = "passthrough"\nkeys = { a = "env:OPENAI_API_KEY" }',
            "FILE:7: upstream.keys: would never be sent",
        )

    def test_state_and_ledger(self) -> None:
        """Paths and days that cannot be are refused."""
        self.assertComplaint(
            MINIMAL + '[state]\ndirectory = false\n[ledger]\ndatabase = ""\nretention_days = -1',
            "FILE:8: state.directory: must be text",
            "FILE:10: ledger.database: names no file",
            "FILE:11: ledger.retention_days: -1 is out of range; give a whole number from 0 to 36500",
        )
        self.assertComplaint(
            MINIMAL + '[state]\ndirectory = "a\\u0000b"', "FILE:8: state.directory: holds a character that no path has"
        )

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
