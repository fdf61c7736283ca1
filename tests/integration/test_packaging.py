"""What ``pip install`` gives: the sdist and the wheel are built, checked, and the wheel installed and tried."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT = 120
#: What a build reads; everything else that lies in a checkout stays out of the copy.
NOT_COPIED = shutil.ignore_patterns(
    ".*venv*", ".git", ".demo", "node_modules", "build", "dist", "*.egg-info", "*_cache"
)


def run(*command: str | Path, cwd: Path) -> str:
    """What the command prints; an error with all of it when it fails."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{command} exited {done.returncode}:\n{done.stdout}")
    return done.stdout


class PackagingTests(SynchronousTestCase):
    """One build, looked at from all sides."""

    place: ClassVar[Path]
    sdist: ClassVar[Path]
    wheel: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        """Build from a copy, so that neither leftovers get in nor new ones stay."""
        super().setUpClass()
        cls.place = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.place)
        source = cls.place / "source"
        shutil.copytree(ROOT, source, ignore=NOT_COPIED)
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", cls.place / "dist", source, cwd=cls.place)
        (cls.sdist,) = (cls.place / "dist").glob("*.tar.gz")
        (cls.wheel,) = (cls.place / "dist").glob("*.whl")

    def test_metadata_is_clean(self) -> None:
        """An index would take both, and show the README."""
        checked = run(sys.executable, "-m", "twine", "check", "--strict", self.sdist, self.wheel, cwd=self.place)
        self.assertEqual(checked.count("PASSED"), 2)

    def test_wheel_holds_the_package_and_the_plugin(self) -> None:
        """Every module and the plugin are in the wheel, and nothing else is."""
        with zipfile.ZipFile(self.wheel) as archive:
            names = {name for name in archive.namelist() if ".dist-info/" not in name}
        modules = {
            str(path.relative_to(ROOT))
            for folder in ("openai_relay", "twisted")
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and path.suffix != ".pyc" and path.name != "dropin.cache"
        }
        self.assertEqual(names, modules)
        self.assertIn("twisted/plugins/openai_relay_plugin.py", names)

    def test_sdist_can_be_read_tested_and_installed(self) -> None:
        """Tests, documentation, units and the tool's files are in the sdist."""
        with tarfile.open(self.sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        wanted = {
            ".ci/run",
            "CONTRIBUTING.md",
            "LICENSE",
            "Makefile",
            "README.md",
            "constraints.txt",
            "docs/systemd.md",
            "openai_relay/py.typed",
            "packaging/systemd/openai-relay.service",
            "packaging/systemd/openai-relay.socket",
            "pyproject.toml",
            "relay.tac",
            "setup.cfg",
            "tests/__init__.py",
            "tests/integration/node/package-lock.json",
            "tests/test_house.py",
            "twisted/plugins/openai_relay_plugin.py",
        }
        self.assertEqual(wanted - names, set())
        self.assertEqual([name for name in names if "node_modules" in name or "__pycache__" in name], [])

    def test_installed_wheel_works_from_anywhere(self) -> None:
        """With the wheel installed, twistd offers the service and the command knows its version."""
        environment = self.place / "venv"
        python = environment / "bin" / "python"
        run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=self.place)
        run(
            *(sys.executable, "-m", "pip", "--python", python),
            *("install", "-q", "--no-deps", "--no-index", self.wheel),
            cwd=self.place,
        )
        # The dependencies are those of this environment; a .pth file in a directory that was
        # itself added by one is not read, so an editable install of ours does not come along.
        dependencies = sysconfig.get_path("purelib")
        site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=self.place)
        Path(site.strip(), "dependencies.pth").write_text(f"{dependencies}\n")
        empty = self.place / "empty"
        empty.mkdir()

        where = run(python, "-c", "import openai_relay; print(openai_relay.__file__)", cwd=empty)
        self.assertTrue(Path(where.strip()).is_relative_to(environment), where)
        offered = run(python, "-c", "from twisted.scripts.twistd import run; run()", "--help", cwd=empty)
        self.assertIn("openai-relay", offered)
        version = run(environment / "bin" / "openai-relay", "--version", cwd=empty)
        self.assertIn("0.1.0", version)
        self.assertEqual(list(empty.iterdir()), [])
