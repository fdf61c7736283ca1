"""
The units are accepted by systemd's own checker, and the relay keeps its side of the protocol.

The relay is started as the service unit starts it, by a stand-in for systemd.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from http.client import HTTPSConnection
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from openai_relay.authority.directory import Authority

ROOT = Path(__file__).resolve().parent.parent.parent
UNITS = ROOT / "packaging" / "systemd"
#: Bounds, in seconds: of a program that ends by itself, and of one message.
TIMEOUT = 30

#: What systemd does between fork and exec: the socket becomes descriptor 3, and the
#: environment names the process that it is meant for.
AS_SYSTEMD = """
import os, sys
if sys.argv[1] != "none":
    os.dup2(int(sys.argv[1]), 3)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "https"}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
TWISTD = ("-c", "from twisted.scripts.twistd import run; run()")

CONFIGURATION = """
[listen]
address = "systemd:https"
certificate = "server.pem"
key = "credential:server.key"
client_ca = "ca.pem"
crl = "crl.pem"

[upstream]
api_key = "credential:openai-api-key"

[admin]
address = ""
"""


def unit(name: str) -> configparser.ConfigParser:
    """A unit's sections; a setting that stands twice keeps its last value."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # mypy knows it as a method
    parser.read_string((UNITS / name).read_text())
    return parser


class UnitTests(SynchronousTestCase):
    """What an installation by the book gets."""

    def test_systemd_accepts_them(self) -> None:
        """``systemd-analyze verify`` has nothing to say about the units."""
        analyze = shutil.which("systemd-analyze")
        if analyze is None:
            raise SkipTest("systemd-analyze is not installed")
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        copies = []
        for source in sorted(UNITS.iterdir()):
            # The checker wants every program to exist: ours is installed nowhere, and a bare system has no kill.
            text = re.sub(r"(?<==)(/opt/openai-relay)?/bin/[a-z-]+", sys.executable, source.read_text())
            copy = directory / source.name
            copy.write_text(text)
            copies.append(str(copy))
        done = subprocess.run(
            [analyze, "verify", "--man=no", *copies],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        self.assertEqual((done.stdout, done.returncode), ("", 0))

    def test_pyopenssl_can_call_back(self) -> None:
        """The unit leaves out the one hardening line that makes every TLS handshake fail."""
        self.assertNotIn("MemoryDenyWriteExecute", (UNITS / "openai-relay.service").read_text())

    def test_the_service_reports_for_itself(self) -> None:
        """systemd waits for the relay's own word that it listens, and for its sign of life."""
        service = unit("openai-relay.service")["Service"]
        self.assertEqual(service["Type"], "notify")
        self.assertEqual(service["NotifyAccess"], "main")
        self.assertTrue(service["WatchdogSec"])

    def test_twistd_leaves_no_pid_file(self) -> None:
        """twistd stays in the foreground, where descriptors are handed on, and writes no pid file."""
        command = unit("openai-relay.service")["Service"]["ExecStart"].split()
        self.assertEqual(command[1:4], ["-n", "--pidfile=", "openai-relay"])

    def test_the_working_directory_is_the_services_own(self) -> None:
        """The directory that twistd puts on Python's path is the one only the service can write."""
        service = unit("openai-relay.service")["Service"]
        self.assertEqual(service["WorkingDirectory"], f"%S/{service['StateDirectory']}")
        self.assertEqual(service["StateDirectoryMode"], "0700")

    def test_the_socket_has_the_documented_name(self) -> None:
        """The socket is found under the name that docs/systemd.md tells people to configure."""
        socket = unit("openai-relay.socket")["Socket"]
        manual = (UNITS.parent.parent / "docs" / "systemd.md").read_text()
        self.assertIn(f'address = "systemd:{socket["FileDescriptorName"]}"', manual)


class SupervisedTests(SynchronousTestCase):
    """The relay under a stand-in for systemd, by the book of docs/systemd.md."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        authority = Authority.create(self.directory)
        authority.issue_server(["localhost"], stem="server")
        authority.issue_client("alice", into=self.directory, stem="client")
        (self.directory / "openai-api-key").write_text("sk-test\n")
        (self.directory / "relay.toml").write_text(CONFIGURATION)
        self.state = self.directory / "state"
        self.state.mkdir()

        self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.notifications.close)
        self.notifications.bind(str(self.directory / "notify"))
        self.notifications.settimeout(TIMEOUT)

        self.port = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.port.close)

    def start(self, passed: int | None) -> subprocess.Popen[str]:
        """The command of the service unit, in the environment that systemd gives it."""
        command = unit("openai-relay.service")["Service"]["ExecStart"].split()[1:]
        command[command.index("--config") + 1] = str(self.directory / "relay.toml")
        relay = subprocess.Popen(
            [sys.executable, "-c", AS_SYSTEMD, str(passed or "none"), *TWISTD, *command],
            cwd=self.state,
            env={
                "PATH": os.defpath,
                "PYTHONPATH": str(ROOT),
                "CREDENTIALS_DIRECTORY": str(self.directory),
                "NOTIFY_SOCKET": str(self.directory / "notify"),
                "WATCHDOG_USEC": "500000",
            },
            pass_fds=[] if passed is None else [passed],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert relay.stdout is not None
        self.addCleanup(relay.stdout.close)
        self.addCleanup(relay.wait, TIMEOUT)
        self.addCleanup(relay.kill)
        self.address = self.port.getsockname()
        self.port.close()  # from here on only the relay holds it: if that dies, connecting fails at once
        return relay

    def await_notification(self, relay: subprocess.Popen[str], wanted: str) -> None:
        """Read what the relay tells systemd until it is this."""
        told = ""
        while wanted not in told.split("\n"):
            try:
                told = self.notifications.recv(4096).decode()
            except TimeoutError:
                relay.kill()
                self.fail(f"no {wanted} came; the relay printed:\n{relay.communicate()[0]}")

    def ask(self) -> int:
        """The status of a request that the relay answers by itself."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
        context.load_cert_chain(self.directory / "client.pem", self.directory / "client.key")
        client = HTTPSConnection("localhost", self.address[1], timeout=TIMEOUT, context=context)
        self.addCleanup(client.close)
        client.request("GET", "/not/forwarded")
        return client.getresponse().status

    def test_life_of_a_service(self) -> None:
        """It serves on the passed socket, says so, shows that it lives, outlives a reload, and ends when told."""
        relay = self.start(self.port.fileno())
        self.await_notification(relay, "READY=1")
        refused = self.ask()
        self.assertIn(refused, (403, 404))
        self.await_notification(relay, "WATCHDOG=1")
        relay.send_signal(signal.SIGHUP)
        self.assertEqual(self.ask(), refused)
        relay.send_signal(signal.SIGTERM)
        self.await_notification(relay, "STOPPING=1")
        output, _ = relay.communicate(timeout=TIMEOUT)
        self.assertEqual(relay.returncode, 0, output)
        self.assertEqual(sorted(path.name for path in self.state.iterdir()), ["ledger.sqlite3", "limits.json"])

    def test_no_socket(self) -> None:
        """Without the socket unit the relay does not start, and says which one it misses."""
        relay = self.start(None)
        output, _ = relay.communicate(timeout=TIMEOUT)
        self.assertEqual(relay.returncode, 1, output)
        self.assertIn("FileDescriptorName=https", output)
        self.assertNotIn("Traceback", output)

    def test_bad_configuration(self) -> None:
        """A configuration that cannot be used ends with the code after which the unit is not started again."""
        (self.directory / "relay.toml").write_text(CONFIGURATION.replace("crl =", "clr ="))
        relay = self.start(self.port.fileno())
        output, _ = relay.communicate(timeout=TIMEOUT)
        self.assertEqual(str(relay.returncode), unit("openai-relay.service")["Service"]["RestartPreventExitStatus"])
        self.assertIn('relay.toml:7: listen.clr: is not known; did you mean "crl"?', output)
