"""
The rules of the house that no linter knows, held by reading the source.

Each rule takes a tree (the checkout) and names what breaks it; the last tests
show each rule a tree that does.
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
LONGEST_MODULE = 400

#: A class or module named so is not yet understood.
VAGUE = {
    "backend",
    "context",
    "engine",
    "handler",
    "helper",
    "info",
    "manager",
    "processor",
    "session",
    "util",
    "utils",
}

#: Names that stand for a way of working that we left behind.
BANNED = {
    "ensureDeferred": "use Deferred.fromCoroutine",
    "inlineCallbacks": "write async def",
}
BANNED_IN_TESTS = BANNED | {
    "mock": "hand in a double that keeps the interface",
    "sleep": "wait for the event itself, or advance a Clock",
}


def modules(tree: Path) -> Iterator[Path]:
    """Every module of the package."""
    return iter(sorted((tree / "openai_relay").rglob("*.py")))


def modules_of_tests(tree: Path) -> Iterator[Path]:
    """Every module of the tests, this one aside: it has to name what it forbids."""
    return (path for path in sorted((tree / "tests").rglob("*.py")) if path.name != Path(__file__).name)


def unmirrored(tree: Path) -> list[str]:
    """Modules whose test file is missing: ``core/limits.py`` wants ``tests/core/test_limits.py``."""
    missing = []
    for path in modules(tree):
        wanted = path.relative_to(tree / "openai_relay").with_name(f"test_{path.name}")
        if path.name != "__init__.py" and not (tree / "tests" / wanted).is_file():
            missing.append(f"{path.relative_to(tree)} has no tests/{wanted}")
    return missing


def without_package(tree: Path) -> list[str]:
    """Directories of tests that are no packages, where equal file names would collide."""
    return [
        f"{directory.relative_to(tree)} has no __init__.py"
        for directory in sorted({path.parent for path in modules_of_tests(tree)})
        if not (directory / "__init__.py").is_file()
    ]


def overlong(tree: Path) -> list[str]:
    """Modules in which two things live."""
    counts = {path: len(path.read_text().splitlines()) for path in modules(tree)}
    return [f"{path.relative_to(tree)} has {n} lines" for path, n in counts.items() if n > LONGEST_MODULE]


def full_packages(tree: Path) -> list[str]:
    """``__init__.py`` files that hold more than a docstring."""
    full = []
    for path in modules(tree):
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            if len(body) > 1 or not all(isinstance(node, ast.Expr) for node in body):
                full.append(str(path.relative_to(tree)))
    return full


def unexplained(tree: Path) -> list[str]:
    """Test methods that do not say which behaviour they promise."""
    silent = []
    for path in modules_of_tests(tree):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                and node.name.startswith("test_")
                and not ast.get_docstring(node)
            ):
                silent.append(f"{path.relative_to(tree)}:{node.lineno}: {node.name} has no docstring")
    return silent


def vague(tree: Path) -> list[str]:
    """Modules and classes whose name says that they do something to something."""
    found = []
    for path in modules(tree):
        if VAGUE & set(path.stem.lower().split("_")):
            found.append(str(path.relative_to(tree)))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                words = {word.lower() for word in re.findall(r"[A-Z][a-z]*", node.name)}
                if VAGUE & words:
                    found.append(f"{path.relative_to(tree)}:{node.lineno}: {node.name}")
    return found


def imports(node: ast.AST) -> set[str]:
    """The modules that a statement imports from, whole names."""
    if isinstance(node, ast.ImportFrom):
        return {node.module or ""}
    return {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()


def banned(tree: Path) -> list[str]:
    """Uses of what we do not use, in package and tests."""
    found = []
    rules = [(path, BANNED) for path in modules(tree)] + [(path, BANNED_IN_TESTS) for path in modules_of_tests(tree)]
    for path, rule in rules:
        for node in ast.walk(ast.parse(path.read_text())):
            names = {part for name in imports(node) for part in name.split(".")}
            if isinstance(node, ast.ImportFrom):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Attribute):
                names = {node.attr}
            if isinstance(node, ast.stmt | ast.expr):
                place = f"{path.relative_to(tree)}:{node.lineno}"
                found += [f"{place}: {name}: {rule[name]}" for name in sorted(names & rule.keys())]
    return found


def heavy_drop_in(tree: Path) -> list[str]:
    """What would make every ``twistd`` on the machine import us, or hide the real Twisted."""
    found = [str(path.relative_to(tree)) for path in sorted((tree / "twisted").rglob("__init__.py"))]
    for path in sorted((tree / "twisted" / "plugins").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            foreign = {name for name in imports(node) if name.split(".")[0] not in {"__future__", "twisted", "typing"}}
            found += [f"{path.relative_to(tree)} imports {name}" for name in sorted(foreign)]
    return found


class HouseTests(SynchronousTestCase):
    """This checkout keeps the rules."""

    def assertKept(self, broken: list[str]) -> None:
        if broken:
            self.fail("\n".join(["", *broken]))

    def test_every_module_has_its_test_file(self) -> None:
        """The tests mirror the tree: no module is without a test file of its name."""
        self.assertKept(unmirrored(ROOT))

    def test_every_directory_of_tests_is_a_package(self) -> None:
        """Two test files of one name in two directories are told apart."""
        self.assertKept(without_package(ROOT))

    def test_no_module_is_too_long(self) -> None:
        """A module is split before it has more than 400 lines."""
        self.assertKept(overlong(ROOT))

    def test_packages_are_empty(self) -> None:
        """Importing a package runs nothing: its ``__init__.py`` holds a docstring at most."""
        self.assertKept(full_packages(ROOT))

    def test_every_test_states_its_promise(self) -> None:
        """Every test method has a docstring that states the behaviour."""
        self.assertKept(unexplained(ROOT))

    def test_names_say_what_things_are(self) -> None:
        """No class or module is a manager, a handler, a helper or the like."""
        self.assertKept(vague(ROOT))

    def test_nothing_banned_is_used(self) -> None:
        """No patching, no sleeping, and coroutines instead of generators."""
        self.assertKept(banned(ROOT))

    def test_drop_in_is_light(self) -> None:
        """The plugin that every ``twistd`` runs imports nothing of ours, and ``./twisted`` is no package."""
        self.assertTrue((ROOT / "twisted" / "plugins" / "openai_relay_plugin.py").is_file())
        self.assertKept(heavy_drop_in(ROOT))


class RuleTests(SynchronousTestCase):
    """Each rule sees what breaks it."""

    def setUp(self) -> None:
        self.tree = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.tree)

    def write(self, name: str, text: str = "") -> None:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def test_missing_mirror(self) -> None:
        """A test file elsewhere in the tree does not count as a module's own."""
        self.write("openai_relay/core/limits.py")
        self.write("tests/test_limits.py")
        self.assertEqual(unmirrored(self.tree), ["openai_relay/core/limits.py has no tests/core/test_limits.py"])
        self.write("tests/core/test_limits.py")
        self.assertEqual(unmirrored(self.tree), [])

    def test_missing_package(self) -> None:
        """A directory with tests and no ``__init__.py`` is named."""
        self.write("tests/core/test_limits.py")
        self.assertEqual(without_package(self.tree), ["tests/core has no __init__.py"])

    def test_long_module(self) -> None:
        """400 lines pass and 401 do not."""
        self.write("openai_relay/long.py", "pass\n" * 401)
        self.write("openai_relay/fits.py", "pass\n" * 400)
        self.assertEqual(overlong(self.tree), ["openai_relay/long.py has 401 lines"])

    def test_code_in_a_package(self) -> None:
        """A docstring may stand in ``__init__.py``, an import may not."""
        self.write("openai_relay/__init__.py", '"""Here."""\n')
        self.write("openai_relay/core/__init__.py", "import json\n")
        self.assertEqual(full_packages(self.tree), ["openai_relay/core/__init__.py"])

    def test_silent_test(self) -> None:
        """A test without a docstring is named with its line, coroutines too."""
        self.write("tests/test_x.py", "class T:\n    async def test_it(self): pass\n    def helper(self): pass\n")
        self.assertEqual(unexplained(self.tree), ["tests/test_x.py:2: test_it has no docstring"])

    def test_vague_names(self) -> None:
        """A vague word is found inside longer names, and not inside other words."""
        self.write("openai_relay/tls_utils.py", "class StreamManager: pass\nclass Informed: pass\n")
        self.assertEqual(vague(self.tree), ["openai_relay/tls_utils.py", "openai_relay/tls_utils.py:1: StreamManager"])

    def test_banned_names(self) -> None:
        """What is banned is found as an import, as a part of one, and as an attribute."""
        self.write("tests/test_x.py", "from unittest import mock\nimport unittest.mock\nimport time\ntime.sleep(1)\n")
        self.write("openai_relay/y.py", "from twisted.internet.defer import inlineCallbacks\n")
        self.assertEqual(
            [line.rpartition(":")[0] for line in banned(self.tree)],
            [
                "openai_relay/y.py:1: inlineCallbacks",
                "tests/test_x.py:1: mock",
                "tests/test_x.py:2: mock",
                "tests/test_x.py:4: sleep",
            ],
        )

    def test_heavy_drop_in(self) -> None:
        """A plugin that imports the package is named, and so is an ``__init__.py`` beside it."""
        self.write("twisted/__init__.py")
        self.write(
            "twisted/plugins/relay.py", "from twisted.application.service import ServiceMaker\nimport openai_relay"
        )
        self.assertEqual(
            heavy_drop_in(self.tree), ["twisted/__init__.py", "twisted/plugins/relay.py imports openai_relay"]
        )
