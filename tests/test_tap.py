"""The door of ``twistd``: what it takes, and what it says to what it does not take."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields
from io import StringIO
from pathlib import Path

from twisted.application.service import IServiceMaker, ServiceMaker
from twisted.python import usage
from zope.interface.verify import verifyObject

from openai_relay.config.read import CommandLine
from openai_relay.core.settings import ListenSettings, UpstreamSettings
from openai_relay.tap import BAD_CONFIGURATION, Options, makeService
from tests.certificates import listen_settings
from tests.config.case import LISTEN, ConfigurationCase

ROOT = Path(__file__).resolve().parent.parent


class OptionsCase(ConfigurationCase):
    """Types command lines whose paths do not depend on the current directory."""

    def setUp(self) -> None:
        super().setUp()
        (self.directory / "openai.key").write_text("a-key\n")
        self.file.write_text(LISTEN + '[upstream]\napi_key = "file:openai.key"\n')
        self.files = [
            *("--certificate", f"{self.directory}/server.pem"),
            *("--key", f"{self.directory}/server.key"),
            *("--client-ca", f"{self.directory}/ca.pem"),
        ]
        self.key_from = ["--api-key-from", f"file:{self.directory}/openai.key"]

    def typed(self, *arguments: str) -> Options:
        options = Options()
        options.parseOptions(list(arguments))
        return options

    def refusal(self, *arguments: str) -> str:
        """What a usage error says about these arguments."""
        return str(self.assertRaises(usage.UsageError, self.typed, *arguments))

    def exit(self, *arguments: str) -> tuple[object, str, str]:
        """With what code, and after which words on standard output and error, these arguments end the process."""
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            ended = self.assertRaises(SystemExit, self.typed, *arguments)
        return ended.code, out.getvalue(), err.getvalue()


class OptionsTests(OptionsCase):
    """Command line in, settings out."""

    def test_file(self) -> None:
        """``--config`` is enough."""
        for option in ("--config", "-c"):
            settings = self.typed(option, str(self.file)).settings
            self.assertEqual(settings.listen.certificate, self.directory / "server.pem")

    def test_file_of_the_tac(self) -> None:
        """``relay.tac`` gets the same from the name of a file."""
        self.assertEqual(Options.of_file(str(self.file)).settings, self.typed("--config", str(self.file)).settings)

    def test_no_file(self) -> None:
        """Plain options are enough, too, and give the same settings as a file that says the same and keeps no state."""
        self.file.write_text(self.file.read_text() + '[state]\ndirectory = ""\n')
        self.assertEqual(
            self.typed(*self.files, *self.key_from).settings, self.typed("--config", str(self.file)).settings
        )

    def test_option_over_file(self) -> None:
        """An option goes before the file."""
        options = self.typed(
            "--config", str(self.file), "--listen", "[::]:443", "--requests-per-minute=60", "--burst=2"
        )
        settings = options.settings
        self.assertEqual(settings.listen.address, "[::]:443")
        self.assertEqual((settings.limits.requests_per_minute, settings.limits.burst), (60.0, 2))

    def test_options_are_those_of_the_command_line(self) -> None:
        """What ``twistd`` takes is what the configuration reads, no more and no less."""
        names = {str(name).replace("-", "_") for name, *_ in Options.optParameters}
        self.assertEqual(names, {field.name for field in fields(CommandLine)})

    def test_help_tells_the_defaults(self) -> None:
        """The defaults in the help are those of the settings."""
        text = " ".join(str(Options()).split())
        [address] = [field.default for field in fields(ListenSettings) if field.name == "address"]
        self.assertIn(f"(default: {address})", text)
        self.assertIn(f"(default: {UpstreamSettings().url})", text)
        self.assertIn("(default: env:OPENAI_API_KEY)", text)
        self.assertIn("openai-relay init", text)

    def test_version(self) -> None:
        """``--version`` prints our version, not Twisted's."""
        code, out, _ = self.exit("--version")
        self.assertEqual(code, 0)
        self.assertRegex(out, r"^openai-relay (\d+\.|\(not installed)")


class UsageErrorTests(OptionsCase):
    """Slips on the command line: told by ``twistd``, with its help."""

    def test_nothing(self) -> None:
        """Without anything, what is needed is explained, and the command that makes it is named."""
        told = self.refusal()
        for words in (
            "--config relay.toml",
            "--certificate",
            "--key",
            "--client-ca",
            "OPENAI_API_KEY",
            "openai-relay init",
        ):
            self.assertIn(words, told)

    def test_unknown_option(self) -> None:
        """A slip in an option's name is answered with the option."""
        self.assertIn("--certificat-x not recognized; did you mean --certificate?", self.refusal("--certificat-x", "a"))
        self.assertNotIn("did you mean", self.refusal("--xyzzy"))

    def test_missing_argument(self) -> None:
        """An option without its value is named."""
        self.assertIn("--burst requires argument", self.refusal("--burst"))

    def test_bare_word(self) -> None:
        """A file without ``--config`` is told what it lacks."""
        self.assertIn('"relay.toml" is not an option; did you mean --config', self.refusal("relay.toml"))

    def test_wrong_values(self) -> None:
        """Every wrong value is said in one go, each with its option."""
        told = self.refusal(*self.files[:4], "--listen", "8443", "--burst", "x", "--api-key-from", "hidden")
        self.assertEqual(
            sorted(line.split(": ")[0] for line in told.splitlines()),
            ["--api-key-from", "--burst", "--burst", "--client-ca", "--listen"],
        )
        self.assertNotIn("hidden", told)

    def test_unset_variable(self) -> None:
        """A variable that is not set is named with the option that named it."""
        told = self.refusal(*self.files, "--api-key-from", "env:OPENAI_RELAY_IS_NOT_SET")
        self.assertIn("--api-key-from: the environment variable OPENAI_RELAY_IS_NOT_SET is not set", told)


class BadConfigurationTests(OptionsCase):
    """A wrong file: told on standard error, exit code 78."""

    def test_bad_file(self) -> None:
        """File, line and key are said, without the help, and the code keeps systemd from trying again."""
        self.file.write_text("[listen]\nadress = 1\n")
        code, out, err = self.exit("--config", str(self.file))
        self.assertEqual((code, out), (BAD_CONFIGURATION, ""))
        self.assertEqual(code, 78)
        self.assertIn(f'{self.file}:2: listen.adress: is not known; did you mean "address"?\n', err)

    def test_missing_file(self) -> None:
        """A file that is not there is a bad configuration."""
        code, _, err = self.exit("--config", f"{self.directory}/none.toml")
        self.assertEqual(code, 78)
        self.assertIn("none.toml", err)

    def test_option_and_file(self) -> None:
        """When a file is wrong, too, everything is said at once with the file's code."""
        self.file.write_text("[listen]\n")
        code, _, err = self.exit("--config", str(self.file), "--listen", "x")
        self.assertEqual(code, 78)
        self.assertIn("--listen: ", err)
        self.assertIn(f"{self.file}:1: listen.certificate: is missing", err)

    def test_bad_certificate(self) -> None:
        """What is wrong inside a file that the configuration names is said at the key that names it."""
        options = self.typed("--config", str(self.file))
        err = StringIO()
        with redirect_stderr(err):
            ended = self.assertRaises(SystemExit, makeService, options)
        self.assertEqual(ended.code, 78)
        self.assertTrue(err.getvalue().startswith(f"{self.file}:2: listen.certificate: "), err.getvalue())

    def test_bad_certificate_by_option(self) -> None:
        """The same without a file: the option is named."""
        options = self.typed(*self.files, *self.key_from)
        err = StringIO()
        with redirect_stderr(err):
            ended = self.assertRaises(SystemExit, makeService, options)
        self.assertEqual(ended.code, 78)
        self.assertTrue(err.getvalue().startswith("--certificate: "), err.getvalue())


class ProcessTests(OptionsCase):
    """What a process is given before it serves; each test has one of its own."""

    def setUp(self) -> None:
        super().setUp()
        listen_settings(self.directory)  # real files, which these tests read

    def run_program(
        self, program: str, *, closed: str = "", files: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        limit = "" if files is None else f"ulimit -n {files}; "
        return subprocess.run(
            ["sh", "-c", f'{limit}exec "$@" {closed}', "sh", sys.executable, "-c", program, str(self.file)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_monotonic(self) -> None:
        """Timers run on the clock that nobody can set, those that were started before as well."""
        ran = self.run_program(
            "import sys, time; from twisted.internet import reactor\n"
            "from openai_relay.tap import Options, makeService\n"
            "before = reactor.callLater(100, print)\n"
            "makeService(Options.of_file(sys.argv[1]))\n"
            "after = reactor.callLater(100, print)\n"
            "print(abs(reactor.seconds() - time.monotonic()) < 10, 0 <= after.getTime() - before.getTime() < 50)"
        )
        self.assertEqual((ran.stdout, ran.returncode), ("True True\n", 0), ran.stderr)

    def test_standard_descriptors(self) -> None:
        """A standard descriptor that is closed is not given to what is opened next."""
        ran = self.run_program(
            "import os, sys; from openai_relay.tap import Options, makeService\n"
            "makeService(Options.of_file(sys.argv[1]))\n"
            "sys.stderr.write(os.readlink('/proc/self/fd/1'))",
            closed=">&-",
        )
        self.assertEqual((ran.stderr, ran.returncode), (os.devnull, 0))

    def test_few_descriptors(self) -> None:
        """Where fewer files may be open than the connections would need, the log says so, with what to raise."""
        program = (
            "import resource, sys; from twisted.logger import globalLogBeginner, textFileLogObserver\n"
            "from openai_relay.tap import Options, makeService\n"
            "globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)\n"
            "makeService(Options.of_file(sys.argv[1]))\n"
            "print(len(set(resource.getrlimit(resource.RLIMIT_NOFILE))))"
        )
        few = self.run_program(program, files=256)
        self.assertIn("only 256 files may be open, and 10000 clients", few.stderr)
        self.assertIn("LimitNOFILE=", few.stderr)
        soft = self.run_program(
            program.replace("import resource", "import resource; resource.setrlimit(7, (128, 512)); import os")
        )
        self.assertEqual(soft.stdout, "1\n", soft.stderr)

    def test_own_log(self) -> None:
        """What the relay says reaches standard error by the time it ends."""
        ran = self.run_program(
            "from twisted.logger import globalLogBeginner, Logger; from openai_relay.tap import standard_error\n"
            "globalLogBeginner.beginLoggingTo([standard_error()], redirectStandardIO=False)\n"
            "Logger('openai_relay').info('hello {name}', name='\\udcff'); Logger('twisted.web').info('noise')"
        )
        self.assertIn("hello \\udcff\n", ran.stderr)
        self.assertNotIn("noise", ran.stderr)


class DoorTests(OptionsCase):
    """The drop-in, the ``.tac``, and what they bring along."""

    def test_drop_in(self) -> None:
        """The drop-in offers ``openai-relay``, whose options and service are ours."""
        source = (ROOT / "twisted" / "plugins" / "openai_relay_plugin.py").read_text()
        names: dict[str, object] = {}
        exec(compile(source, "openai_relay_plugin.py", "exec"), names)
        [maker] = [value for value in names.values() if isinstance(value, ServiceMaker)]
        verifyObject(IServiceMaker, maker)
        self.assertEqual(maker.tapname, "openai-relay")
        self.assertIs(maker.options, Options)
        self.assertIs(maker.makeService, makeService)

    def test_tac(self) -> None:
        """The ``.tac`` is ten lines at most, and reads the file that its two sources name."""
        source = (ROOT / "relay.tac").read_text()
        ast.parse(source)
        self.assertLessEqual(len(source.splitlines()), 10)
        self.assertTrue(re.search(r'get\("OPENAI_RELAY_CONFIG", "relay.toml"\)', source))

    def test_tac_with_a_bad_file(self) -> None:
        """Run by ``twistd``'s own loader, the ``.tac`` says what is wrong and ends with 78."""
        self.file.write_text("[listen]\nadress = 1\n")
        program = (
            "import sys; from twisted.application.service import loadApplication;loadApplication(sys.argv[1], 'python')"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program, str(ROOT / "relay.tac")],
            env={**os.environ, "OPENAI_RELAY_CONFIG": str(self.file), "PYTHONPATH": str(ROOT)},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(ran.returncode, 78, ran.stderr)
        self.assertIn(f"{self.file}:2: listen.adress: is not known", ran.stderr)

    def test_no_reactor(self) -> None:
        """Reading options installs no reactor, so that ``twistd --reactor`` still decides."""
        program = (
            "import sys; from openai_relay.tap import Options; Options.of_file(sys.argv[1]);"
            "sys.exit('twisted.internet.reactor' in sys.modules)"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program, str(self.file)], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
