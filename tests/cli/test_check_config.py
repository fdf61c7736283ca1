"""Would a relay start with this file?"""

from __future__ import annotations

import json
import re
from pathlib import Path

from click.testing import Result
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import Authority
from tests.authority.directories import contents, new_directory
from tests.cli.commands import typed

KEY = "sk-not-to-be-shown"


class CheckConfigTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self) / "relay"
        self.assertEqual(typed("init", self.directory).exit_code, 0)
        self.file = self.directory / "relay.toml"

    def check(self, *words: object, file: Path | None = None) -> Result:
        result = typed("check-config", file or self.file, *words, environment={"OPENAI_API_KEY": KEY})
        self.assertNotIn(KEY, result.output)
        return result

    def wrong(self) -> str:
        """What is said about a configuration that cannot be used."""
        result = self.check()
        self.assertEqual((result.exit_code, result.stdout), (78, ""))
        self.assertIsInstance(result.exception, SystemExit)
        return result.stderr

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text()
        self.assertIn(old, text)
        self.file.write_text(text.replace(old, new))

    def test_ok(self) -> None:
        """What init has made is right, and the summary says what it means."""
        before = contents(self.directory)
        result = self.check()
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        self.assertTrue(result.stdout.startswith("ok\n"))
        for said in ("127.0.0.1:8443", "client certificates required", "/v1/ to https://api.openai.com", "good until"):
            self.assertIn(said, result.stdout)
        self.assertEqual(contents(self.directory), before)

    def test_json(self) -> None:
        """Programs get whether it is right, and all that is wrong."""
        self.assertEqual(
            json.loads(self.check("--json").stdout),
            {"ok": True, "file": str(self.file), "messages": [], "warnings": []},
        )
        self.file.write_text("[listen]\nadress = 1\n[upstreem]\n")
        result = self.check("--json")
        document = json.loads(result.stdout)
        self.assertEqual((result.exit_code, document["ok"]), (78, False))
        self.assertGreater(len(document["messages"]), 1)

    def test_every_message(self) -> None:
        """All that is wrong is said at once, each with file and line."""
        self.edit("[listen]", "[listen]\nadress = 1\nburst = 2")
        said = self.wrong()
        self.assertEqual(said.count(f"{self.file}:"), 2, said)
        self.assertIn("adress", said)

    def test_no_file(self) -> None:
        """A missing file is said to be missing, and how to make one."""
        result = self.check(file=self.directory / "no.toml")
        self.assertEqual(result.exit_code, 78)
        self.assertIn("openai-relay init", result.stderr)

    def test_files_that_do_not_fit(self) -> None:
        """A key of another certificate, a list of another authority, and noise are found, not only missing files."""
        other = Authority.create(self.directory / "other")
        made = other.issue_server(["localhost"], stem="server")
        for name, content in (
            ("server.key", made.key.read_bytes()),
            ("crl.pem", other.crl_path.read_bytes()),
            ("ca.pem", b"noise"),
            ("server.pem", b""),
        ):
            before = (self.directory / name).read_bytes()
            (self.directory / name).write_bytes(content)
            self.assertRegex(self.wrong(), rf"^{re.escape(str(self.file))}:\d+: listen\.")
            (self.directory / name).write_bytes(before)
        self.assertEqual(self.check().exit_code, 0)

    def test_soon_out_of_date(self) -> None:
        """A revocation list or certificate that ends within a week is a warning: then everybody is refused."""
        self.assertEqual(typed("crl", "--days", 3, "--dir", self.directory).exit_code, 0)
        result = self.check()
        self.assertEqual(result.exit_code, 0)
        self.assertIn("Warning: the revocation list is good for ", result.stderr)
        self.assertIn("`openai-relay crl`", result.stderr)
        typed("cert", "issue", "localhost", "--server", "--renew", "--days", 2, "--dir", self.directory)
        (warning,) = json.loads(self.check("--json").stdout)["warnings"]
        self.assertIn("the server's certificate is good for ", warning)

    def test_authority_without_list(self) -> None:
        """An authority that is trusted and has no list is a warning, in words and as JSON: its clients are refused."""
        other = Authority.create(self.directory / "other", "Other CA")
        trusted = self.directory / "ca.pem"
        trusted.write_bytes(trusted.read_bytes() + other.certificate_path.read_bytes())
        result = self.check()
        self.assertEqual(result.exit_code, 0)
        self.assertIn("Warning: listen.crl holds no list of 'CN=Other CA': whoever has a certificate", result.stderr)
        self.assertEqual(len(json.loads(self.check("--json").stdout)["warnings"]), 1)

    def test_directory_of_lists(self) -> None:
        """The lists may lie in a directory; a file in it that is none is named with the line of the setting."""
        lists = self.directory / "lists"
        lists.mkdir()
        (self.directory / "crl.pem").rename(lists / "crl.pem")
        self.edit('crl = "crl.pem"', 'crl = "lists"')
        result = self.check()
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        self.assertIn("lists, good until", result.stdout)
        (lists / "other.crl").write_bytes(b"noise")
        self.assertRegex(self.wrong(), r"relay\.toml:\d+: listen\.crl: .*other\.crl: holds no revocation list")

    def add(self, text: str) -> None:
        self.file.write_text(f"{self.file.read_text()}\n{text}")

    def test_who_may_do_what(self) -> None:
        """Tiers, clients, budgets, state and ledger are told in the summary, and nothing is made for it."""
        before = contents(self.directory)
        said = self.check().stdout
        state = self.directory / "state"
        for line in (
            "limits       none",
            "tiers        none",
            "clients      all alike",
            f"state        {state}, which the relay makes",
            f"ledger       {state}/ledger.sqlite3, single exchanges kept for 90 days",
        ):
            self.assertIn(f"\n  {line}\n", said)
        self.assertEqual(contents(self.directory), before)
        self.edit("[identity]", "[identity]\ndefault_tier = 'staff'")
        limits = "max_wait = 2\nmax_queue = 3\ntokens_per_minute = 1000\nshadow = true"
        self.edit("[limits]  #", f"[limits]\n{limits}\n#")
        self.add("[tiers.staff]\n[tiers.other]\n[clients.alice]\nbudgets = [{ per = 'day', dollars = 5 }]\n")
        result = self.check()
        self.assertEqual(result.stderr, "")
        for line in (
            "limits       1,000 tokens a minute, 3 may wait for 2 s, shadow: nothing is refused",
            "tiers        staff (default), other",
            "clients      1 client has rules of its own",
        ):
            self.assertIn(f"\n  {line}\n", result.stdout)
        self.assertRegex(result.stdout, r"\n  alice +staff .* \$5\.00/day ")

    def test_forgetful_budgets(self) -> None:
        """Budgets that a restart would give back are a warning."""
        self.add("[tiers.a]\nbudgets = [{ per = 'day', dollars = 5 }]\n")
        self.assertEqual(self.check().stderr, "")
        self.edit('# directory = "state"', 'directory = ""')
        result = self.check()
        self.assertEqual(result.exit_code, 0)
        self.assertIn("Warning: there are budgets and no ledger: each restart begins them anew", result.stderr)
        for line in (
            "state        none: nothing outlives the process",
            "ledger       none, since there is no directory",
        ):
            self.assertIn(f"\n  {line}", result.stdout)
        self.edit("# enabled = true\n# The file", "enabled = false\n# The file")
        self.assertIn("\n  ledger       off\n", self.check().stdout)

    def test_places_that_will_not_do(self) -> None:
        """A directory or a ledger that cannot be used is told with the line that names it."""
        self.edit('# directory = "state"', 'directory = "server.pem/state"')
        self.assertRegex(self.wrong(), rf"^{re.escape(str(self.file))}:\d+: state\.directory: .* is not a directory")
        self.edit('directory = "server.pem/state"', 'directory = "state"')
        self.edit('# database = "state/ledger.sqlite3"', 'database = "server.pem"')
        self.assertRegex(self.wrong(), rf"^{re.escape(str(self.file))}:\d+: ledger\.database: .* is no ledger")
        self.edit('database = "server.pem"', 'database = "none/ledger.sqlite3"')
        self.assertRegex(self.wrong(), r":\d+: ledger\.database: .* does not exist: make it")

    def test_wrong_budget(self) -> None:
        """A slip in a budget is told at its line."""
        self.add("[[clients.alice.budgets]]\nper = 'fortnight'\ndollars = 5\n")
        line = self.file.read_text().count("\n") - 1
        self.assertEqual(
            self.wrong(),
            f'{self.file}:{line}: clients.alice.budgets[1].per: "fortnight" is not known; '
            'it is one of "day", "week", "month"\n',
        )
