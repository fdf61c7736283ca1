"""Files, options, and both; and that nothing that people write ends in a traceback."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_relay.config.problems import BadConfiguration, Problem
from openai_relay.config.read import OPTIONS, CommandLine, load, placed, written
from openai_relay.config.shape import tables
from openai_relay.core.settings import LimitSettings, ListenSettings, Secret, Settings
from tests.config.case import ENVIRONMENT, LISTEN, MINIMAL, ConfigurationCase, without_prices

#: TOML values of every kind, most of them wrong wherever they stand.
VALUES = st.sampled_from(
    [
        *("0", "-1", "1", "2.5", "nan", "-inf", "1e400", "0x" + "f" * 5_000, "true", "false", "1979-05-27", "00:00:00"),
        *('""', '"x"', '" "', '"\\u0000"', '"\\u001b[2J"', "'''\n[listen]\n'''", '"/"', '"file:"', '"env:"', '"env:X"'),
        *(
            '"credential:x"',
            '"credential:../x"',
            '"file:server.key"',
            '"https://a"',
            '"https://["',
            '"systemd:"',
            '":1"',
        ),
        *("[]", "['']", "['/', 1]", "[[]]", "{}", "{ a = 1 }", "[\n1,\n2]", '"file:\\u0000"', '"' + "a" * 9_000 + '"'),
    ]
)


def keys(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]


KEYS = st.sampled_from([(table, key) for table, kind in tables().items() for key in keys(kind)])
MESSAGE = re.compile(r"FILE:(\d+): ([a-z_.]+(?:\[\d+\])?): [^;]+; .+")


class FileTests(ConfigurationCase):
    """One file."""

    def test_relative_to_the_file(self) -> None:
        """Paths start at the file's directory, whatever the current one is."""
        self.assertEqual(self.read(MINIMAL).listen.client_ca, self.directory / "ca.pem")

    def test_missing(self) -> None:
        """A file that is not there is named, and so is the command that makes one."""
        bad = self.assertRaises(BadConfiguration, load, self.directory / "none.toml", {})
        self.assertIn(f"{self.directory}/none.toml: ", str(bad))
        self.assertIn("does not exist", str(bad))
        self.assertIn("openai-relay init", str(bad))

    def test_directory(self) -> None:
        """A directory is no configuration."""
        self.assertIn("no regular file", str(self.assertRaises(BadConfiguration, load, self.directory, {})))

    def test_syntax(self) -> None:
        """What is not TOML is reported with its line, and the line after the last counts as one."""
        self.assertComplaint("[listen]\naddress = \n", "FILE:2: is not TOML: Invalid value")
        self.assertComplaint("[listen]\n\nx = '", "FILE:3: is not TOML: ")
        self.assertComplaint("[listen]\r\nx\r\n", "FILE:2: is not TOML: Expected '='")
        self.assertComplaint("x = [\n1,\n", "FILE:3: is not TOML: ")
        self.assertComplaint("a = 1\na = 2\n", "FILE:2: is not TOML: Cannot overwrite a value")

    def test_extremes(self) -> None:
        """Nesting and numbers beyond what Python reads are reported, too."""
        self.assertComplaint("a = " + "[" * 100_000, "FILE:1: is not TOML: Lists or tables are nested too deeply")
        self.assertComplaint("a = " + "1" * 5_000, "FILE:1: is not TOML: A number is too long")

    def test_encoding(self) -> None:
        """Bytes that are not UTF-8 are reported with their line; a byte order mark is no harm."""
        self.assertComplaint(b"\n\n# caf\xe9\n", "FILE:3: holds bytes that are not UTF-8")
        plain = without_prices(self.read(MINIMAL))
        self.assertEqual(without_prices(self.read(b"\xef\xbb\xbf" + MINIMAL.encode())), plain)
        self.assertEqual(without_prices(self.read(MINIMAL.replace("\n", "\r\n"))), plain)

    def test_no_secret_in_any_message(self) -> None:
        """A key that is pasted into the file, anywhere, is in no message."""
        secret = "sk-proj-hidden0123456789"
        for table, kind in tables().items():
            for key in keys(kind):
                for value in (f'"{secret}"', f'"file:{secret}"', f'"env:{secret}"', f'["/{secret}", "{secret}"]'):
                    for message in self.complaints(self.with_value(table, key, value)[0]):
                        self.assertNotIn("hidden", message)

    def with_value(self, table: str, key: str, value: str) -> tuple[str, int]:
        """A configuration that has this value at this key, and the key's line."""
        kept = [line for line in MINIMAL.splitlines() if not line.startswith(f"{key} =")]
        header = f"[{table}]"
        if header not in kept:
            kept.append(header)
        at = kept.index(header) + 1
        return "\n".join([*kept[:at], f"{key} = {value}", *kept[at:]]), at + 1

    @settings(deadline=None)
    @given(KEYS, VALUES)
    def test_any_value_anywhere(self, way: tuple[str, str], value: str) -> None:
        """Any value at any key is taken, or refused with file, line and key; never a traceback."""
        text, line = self.with_value(*way, value)
        complaints = self.complaints(text)
        for complaint in complaints:
            self.assertRegex(complaint, MESSAGE)
        about = [match for complaint in complaints if (match := MESSAGE.match(complaint)) and match[2] == ".".join(way)]
        for match in about:
            self.assertEqual(int(match[1]), line)

    @settings(deadline=None)
    @given(st.text(st.sampled_from("ab1 .,=#[]{}\"'\\\n\t-_listenupstrm")) | st.binary())
    def test_any_text(self, text: str | bytes) -> None:
        """Any file at all is reported with file and line; it lacks the certificate, at least."""
        complaints = self.complaints(text)
        self.assertTrue(complaints)
        for complaint in complaints:
            self.assertRegex(complaint, r"FILE:\d+: ")
            self.assertTrue(complaint.isprintable())


class OptionsTests(ConfigurationCase):
    """The command line, alone or over a file."""

    TYPED = CommandLine(certificate="server.pem", key="server.key", client_ca="ca.pem")

    def taken(self, typed: CommandLine, environment: dict[str, str] = ENVIRONMENT) -> Settings:
        return written(typed, environment, self.directory).settings()

    def refused(self, typed: CommandLine, environment: dict[str, str] = ENVIRONMENT) -> BadConfiguration:
        bad: BadConfiguration = self.assertRaises(BadConfiguration, self.taken, typed, environment)
        return bad

    def test_without_a_file(self) -> None:
        """Three files are enough: the key comes from OPENAI_API_KEY, and no state is kept."""
        taken = self.taken(self.TYPED)
        self.assertEqual((taken.state.directory, taken.ledger.database), (None, None))
        self.assertEqual(without_prices(taken), without_prices(self.read(MINIMAL + '[state]\ndirectory = ""\n')))

    def test_every_option(self) -> None:
        """Each option sets its key."""
        (self.directory / "openai.key").write_text("another-key\n")
        settings = self.taken(
            CommandLine(
                listen="[::]:443",
                certificate="server.pem",
                key="server.key",
                client_ca="ca.pem",
                crl="ca.pem",
                upstream="https://localhost:9443",
                upstream_ca="ca.pem",
                api_key_from="file:openai.key",
                requests_per_minute="90.5",
                burst="3",
            )
        )
        here = self.directory
        self.assertEqual(
            settings.listen,
            ListenSettings(
                here / "server.pem",
                Secret(b"the contents of server.key\n"),
                here / "ca.pem",
                address="[::]:443",
                crl=here / "ca.pem",
            ),
        )
        self.assertEqual((settings.upstream.url, settings.upstream.ca), ("https://localhost:9443", here / "ca.pem"))
        self.assertEqual(settings.upstream.api_key, Secret(b"another-key"))
        self.assertEqual(settings.limits, LimitSettings(90.5, 3))

    def test_options_are_keys(self) -> None:
        """Every option but ``--config`` is about a key that exists."""
        self.assertEqual(set(OPTIONS) | {"config"}, set(keys(CommandLine)))
        for _, (table, key) in OPTIONS.values():
            self.assertIn(key, keys(tables()[table]))

    def test_over_a_file(self) -> None:
        """An option goes before the file's value, even one that is wrong, and leaves the others alone."""
        self.file.write_text(MINIMAL + "[limits]\nrequests_per_minute = -5\nconcurrent = 2\n")
        settings = self.taken(CommandLine(config="relay.toml", requests_per_minute="60", burst="4"))
        self.assertEqual(settings.limits, LimitSettings(60.0, 4, 2))
        self.assertEqual(settings.listen.certificate, self.directory / "server.pem")

    def test_both_sorts_of_paths(self) -> None:
        """The file's paths start at the file, those of options at the current directory."""
        elsewhere = self.directory / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "ca.pem").write_text("another")
        self.file.write_text(MINIMAL)
        settings = written(CommandLine(config="../relay.toml", client_ca="ca.pem"), ENVIRONMENT, elsewhere).settings()
        self.assertEqual(settings.listen.client_ca, elsewhere / "ca.pem")
        self.assertEqual(settings.listen.certificate.resolve(), (self.directory / "server.pem").resolve())

    def test_wrong_options_are_named(self) -> None:
        """A wrong value names its option; no file is blamed."""
        bad = self.refused(
            CommandLine(
                certificate="none.pem",
                key="",
                client_ca="ca.pem",
                listen="8443",
                upstream="http://a",
                api_key_from="hidden",
                requests_per_minute="many",
                burst="2.5",
            )
        )
        self.assertTrue(bad.only_options)
        self.assertEqual(
            sorted(message.split(": ")[0] for message in bad.messages),
            ["--api-key-from", "--burst", "--certificate", "--key", "--listen", "--requests-per-minute", "--upstream"],
        )
        self.assertIn('--requests-per-minute: "many" is no number; write digits', str(bad))
        self.assertNotIn("hidden", str(bad))

    def test_missing_options_are_named(self) -> None:
        """What is needed and was not given is asked for by the name of its option."""
        bad = self.refused(CommandLine(listen="127.0.0.1:0"), {})
        self.assertEqual(
            [message.split(": ")[0] for message in bad.messages],
            ["--certificate", "--key", "--client-ca", "--api-key-from"],
        )
        self.assertIn("OPENAI_API_KEY is not set", str(bad))

    def test_burst_alone(self) -> None:
        """What is wrong between two keys names the option that was given."""
        bad = self.refused(CommandLine(certificate="server.pem", key="server.key", client_ca="ca.pem", burst="3"))
        self.assertEqual([problem.where for problem in bad.problems], ["--burst"])

    def test_file_and_option_at_fault(self) -> None:
        """When both are wrong, both are said, the file by line."""
        self.file.write_text(MINIMAL + "[log]\nformat = 1\n")
        bad = self.refused(CommandLine(config="relay.toml", listen="x"))
        self.assertFalse(bad.only_options)
        self.assertEqual(
            [(problem.where, problem.line) for problem in bad.problems], [("--listen", None), ("relay.toml", 8)]
        )

    def test_file_under_its_own_name(self) -> None:
        """Messages call the file what the command line called it."""
        (self.directory / "relay.toml").write_text("x")
        self.assertTrue(str(self.refused(CommandLine(config="./relay.toml"))).startswith("./relay.toml:1: is not TOML"))

    @settings(deadline=None)
    @given(st.dictionaries(st.sampled_from(sorted(OPTIONS)), st.text(max_size=20)))
    def test_any_options(self, typed: dict[str, str]) -> None:
        """Whatever is typed is taken, or each message begins with an option."""
        try:
            self.taken(CommandLine(**typed))
        except BadConfiguration as bad:
            for message in bad.messages:
                self.assertRegex(message, r"^--[a-z-]+: .+; .+")
                self.assertTrue(message.isprintable())


class PlacedTests(ConfigurationCase):
    """What is found in files after the settings were read."""

    BAD = BadConfiguration([Problem("", "listen.certificate", "holds no certificate; give another")])

    def test_in_the_file(self) -> None:
        """A problem with a key's file gets the line of that key."""
        self.file.write_text(LISTEN)
        bad = placed(self.BAD, CommandLine(config="relay.toml"), self.directory)
        self.assertEqual(str(bad), "relay.toml:2: listen.certificate: holds no certificate; give another")

    def test_on_the_command_line(self) -> None:
        """Where an option set the key, the option is named."""
        bad = placed(self.BAD, CommandLine(certificate="x.pem"), self.directory)
        self.assertEqual(str(bad), "--certificate: holds no certificate; give another")

    def test_otherwise(self) -> None:
        """A problem that has its place keeps it, and a file that has gone changes nothing."""
        known = BadConfiguration([Problem("relay.toml", "listen.key", "is bad", 3), Problem("", None, "cannot be")])
        self.assertEqual(
            placed(known, CommandLine(), self.directory).messages, ["cannot be", "relay.toml:3: listen.key: is bad"]
        )
        self.assertIs(placed(self.BAD, CommandLine(config="gone.toml"), self.directory), self.BAD)


class ImportTests(ConfigurationCase):
    """What reading a configuration brings along."""

    def test_no_twisted(self) -> None:
        """A configuration is read without Twisted, let alone its reactor."""
        self.file.write_text(MINIMAL)
        program = (
            "import sys, pathlib; from openai_relay.config.read import load;"
            "load(pathlib.Path(sys.argv[1]), {'OPENAI_API_KEY': 'k'});"
            "sys.exit(sorted(name for name in sys.modules if name.split('.')[0] == 'twisted')[:1] or 0)"
        )
        root = Path(__file__).resolve().parents[2]
        ran = subprocess.run([sys.executable, "-c", program, str(self.file)], cwd=root, capture_output=True, timeout=60)
        self.assertEqual((ran.returncode, ran.stderr), (0, b""))
