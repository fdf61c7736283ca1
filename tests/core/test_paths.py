"""Which targets are forwarded, in whatever disguise they come."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote_to_bytes

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.errors import BadRequest, PathNotAllowed, RelayError
from openai_relay.core.paths import PathPolicy

ALLOW = ("/v1/",)
DENY = ("/v1/organization/",)

PLAIN = [
    b"/v1/chat/completions",
    b"/v1/models/gpt-4o-mini.2",
    b"/v1/models/ft:gpt-4o:org::id",
    b"/v1/files?limit=10&after=file-1",
    b"/v1/responses?include[]=a|b&x={%zz}",
    b"/v1/realtime?model=a/../b//c;d",
    b"/v1",
    b"/v1/",
    b"/v1?x",
    b"/v1/organizations",
    b"/v1/organization-x",
    b"/v1/x/organization",
    b"/v1/models?next=/v1/organization",
]
UNUSUAL = [
    b"/v1/files/a%20b",
    b"/v1/files/100%25",
    b"/v1/files/%C3%A9",
    b"/v1//chat/completions",
    b"/v1/./models",
    b"/v1/x/../models",
    b"/v1/x;a=b/y",
    b"/v1/a%2Fb%3Fc%23d",
    b"/v1/a%5Cb",
    b"/v1/.well-known",
    b"/v1/...",
    b"/v1/%2525252525",
]
OUTSIDE = [
    b"/",
    b"/v1beta/models",
    b"/V1/models",
    b"/v2/models",
    b"/?/v1/",
    b"//v1/models",
    b"/./v1/models",
    b"/v1/..",
    b"/v1/../v2",
    b"/v1/%2e%2e/v2",
    b"/v1/%252e%252e/v2",
    b"/v1/%25252e%25252e%25252fv2",
    b"/v1/..%2fv2",
    b"/v1/x%2f..%2f..%2fv2",
    b"/v1/..%5cv2",
    b"/v1/..;/v2",
    b"/v1/..%3b/v2",
    b"/%76%31/models",
    b"*",
]
DENIED = [
    b"/v1/organization",
    b"/v1/organization/",
    b"/v1/organization?x=1",
    b"/v1/organization/costs",
    b"/v1/organization/costs?limit=1",
    b"/v1/ORGANIZATION/costs",
    b"/v1/%6frganization/costs",
    b"/v1/%6Frganization/costs",
    b"/v1/%256frganization/costs",
    b"/v1/%25256frganization/costs",
    b"/v1/organizatio%6e",
    b"/v1/x/../organization/",
    b"/v1/./organization/costs",
    b"/v1//organization/costs",
    b"/v1/%2forganization/costs",
    b"/v1%2forganization/costs",
    b"/v1/organization%2fcosts",
    b"/v1/organization;x=1/costs",
    b"/v1/organization%3bx=1/costs",
    b"/v1/;x/organization/costs",
    b"/v1/organization%3fx",
    b"/v1/organization%23x",
    b"/v1/%5corganization",
    b"/v1/a%2fb/../organization/costs",
    b"/v1/a%2fb/%2e%2e/organization/costs",
    b"/v1/a//../organization/costs",
    b"/v1/a//../../organization/costs",
    b"/v1/%EF%BD%8Frganization/costs",  # a full-width o
    b"/v1/organ%C4%B1zation/costs",  # a dotless i
]
MALFORMED = [
    (b"", "must begin with a slash"),
    (b"v1/models", "must begin with a slash"),
    (b"https://api.openai.com/v1/models", "must begin with a slash"),
    (b"relay.example:443", "must begin with a slash"),
    (b"?x", "must begin with a slash"),
    (b"/v1/a b", "must be percent-encoded"),
    (b"/v1/a\\b", "must be percent-encoded"),
    (b"/v1/a#b", "must be percent-encoded"),
    (b"/v1/a\x00", "must be percent-encoded"),
    (b"/v1/a\r\nX: 1", "must be percent-encoded"),
    (b"/v1/a\n", "must be percent-encoded"),
    (b"/v1/\xc3\xa9", "must be percent-encoded"),
    (b"/v1/models?a\\b", "must be percent-encoded"),
    (b"/v1/models?a#b", "must be percent-encoded"),
    (b"/v1/models?a b", "must be percent-encoded"),
    (b"/v1/models?a\x7f", "must be percent-encoded"),
    (b"/v1/%", "not followed by two hexadecimal digits"),
    (b"/v1/%4", "not followed by two hexadecimal digits"),
    (b"/v1/%zz", "not followed by two hexadecimal digits"),
    (b"/v1/%u006f", "not followed by two hexadecimal digits"),
    (b"/v1/%00", "encoded control character"),
    (b"/v1/%2500", "encoded control character"),
    (b"/v1/%0d%0aX:%201", "encoded control character"),
    (b"/v1/%7f", "encoded control character"),
    (b"/v1/%ff", "not UTF-8"),
    (b"/v1/..%c0%afv2", "not UTF-8"),
]


class Servers:
    """
    How servers find the file or route of a target, written with the standard library alone.

    Each takes the path of a target and returns where it lands.
    """

    @staticmethod
    def merge(path: bytes) -> bytes:
        """Slashes merged and dot segments resolved."""
        return posixpath.normpath(b"/" + path.lstrip(b"/"))

    @classmethod
    def all(cls) -> Iterator[Callable[[bytes], bytes]]:
        """A static one, decoding ones, double-decoding ones, those with parameters, a Windows one."""
        yield lambda path: path
        yield cls.merge
        yield unquote_to_bytes
        yield lambda path: cls.merge(unquote_to_bytes(path))
        yield lambda path: unquote_to_bytes(cls.merge(path))
        yield lambda path: cls.merge(unquote_to_bytes(cls.merge(path)))
        yield lambda path: cls.merge(unquote_to_bytes(unquote_to_bytes(path)))
        yield lambda path: cls.merge(unquote_to_bytes(cls.merge(unquote_to_bytes(path))))
        yield lambda path: cls.merge(unquote_to_bytes(b"/".join(s.partition(b";")[0] for s in path.split(b"/"))))
        yield lambda path: cls.merge(b"/".join(s.partition(b";")[0] for s in unquote_to_bytes(path).split(b"/")))
        yield lambda path: cls.merge(re.sub(rb"(?i)%2e", b".", path))
        yield lambda path: cls.merge(unquote_to_bytes(re.sub(rb"(?i)%(2f|5c)", rb"%25\1", path)))
        yield lambda path: cls.merge(unquote_to_bytes(path).replace(b"\\", b"/"))
        yield lambda path: cls.merge(unquote_to_bytes(path).replace(b"\\", b"/")).lower()
        yield lambda path: cls.merge(re.split(rb"[?#]", unquote_to_bytes(path))[0])
        yield lambda path: re.split(rb"[?#]", unquote_to_bytes(cls.merge(path)))[0]


def is_in(path: bytes, tree: bytes) -> bool:
    """Whether a place is a tree's root or beneath it."""
    return path == tree or path.startswith(tree + b"/")


class AllowedTests(SynchronousTestCase):
    def test_allowed(self) -> None:
        """What is allowed can be told, each entry in the one form that both its spellings mean."""
        self.assertEqual(PathPolicy(("/v1/chat", "/v1/models/"), DENY).allowed, ("/v1/chat/", "/v1/models/"))


class PathPolicyTests(SynchronousTestCase):
    """``PathPolicy``."""

    def setUp(self) -> None:
        self.policy = PathPolicy(ALLOW, DENY)

    def refusal(self, target: bytes, policy: PathPolicy | None = None, method: bytes = b"GET") -> RelayError:
        """What refuses the target."""
        error: RelayError = self.assertRaises(RelayError, (policy or self.policy).check, target, method)
        return error

    def test_usual_targets_pass(self) -> None:
        """What clients of the API ask for passes, whatever stands in the query."""
        for target in PLAIN:
            self.policy.check(target)

    def test_unusual_targets_pass(self) -> None:
        """Escapes, doubled slashes, dots and parameters pass where no reading of them leads out."""
        for target in UNUSUAL:
            self.policy.check(target)

    def test_outside_is_refused(self) -> None:
        """What leads, in any reading, out of the allowed paths is refused, and the allowed ones are named."""
        for target in OUTSIDE:
            error = self.refusal(target, method=b"OPTIONS")
            self.assertIsInstance(error, PathNotAllowed, target)
            self.assertEqual(error.told, "The relay does not allow this path. It forwards: /v1/", target)

    def test_denied_is_refused(self) -> None:
        """What leads, in any reading and in any disguise, to a denied path is refused."""
        for target in DENIED:
            error = self.refusal(target)
            self.assertIsInstance(error, PathNotAllowed, target)
            self.assertEqual((error.status, error.code), (403, "path_not_allowed"), target)

    def test_malformed_is_refused(self) -> None:
        """A target that is no legal one is told what is wrong with it."""
        for target, said in MALFORMED:
            error = self.refusal(target)
            self.assertIsInstance(error, BadRequest, target)
            self.assertIn(said, error.told, target)
            self.assertEqual((error.status, error.code), (400, "malformed_request"))

    def test_the_target_is_not_repeated(self) -> None:
        """No refusal shows the target, which may hold what is not ours to show."""
        for target in (b"/v2/canary", b"/v1/organization/canary", b"/v1/canary\\", b"/v1/canary%00", b"canary"):
            error = self.refusal(target)
            self.assertNotIn("canary", error.told + str(error))

    def test_asterisk(self) -> None:
        """``OPTIONS *`` asks about the whole server and passes only where all of it is allowed."""
        PathPolicy(("/",), ()).check(b"*", b"OPTIONS")
        self.assertIsInstance(self.refusal(b"*", method=b"OPTIONS"), PathNotAllowed)
        self.assertIsInstance(self.refusal(b"*", PathPolicy(("/",), ()), b"GET"), BadRequest)

    def test_all_can_be_allowed(self) -> None:
        """``/`` allows every path, and what is denied stays denied."""
        policy = PathPolicy(("/",), DENY)
        for target in (b"/", b"//", b"/v2", b"/../x", b"/%2e%2e/", *PLAIN):
            policy.check(target)
        for target in DENIED:
            self.refusal(target, policy)

    def test_nothing_allowed(self) -> None:
        """Without any allowed path nothing passes."""
        error = self.refusal(b"/v1/models", PathPolicy((), ()))
        self.assertEqual(error.told, "The relay does not allow this path. It forwards: (none)")

    def test_entries_stand_for_whole_segments(self) -> None:
        """An entry means itself and what is beneath it, with or without its last slash, never a longer name."""
        for entry in ("/v1/chat", "/v1/chat/"):
            policy = PathPolicy((entry, "/v1/models"), ())
            for target in (b"/v1/chat", b"/v1/chat/", b"/v1/chat/completions", b"/v1/models/x", b"/v1/models?x"):
                policy.check(target)
            for target in (b"/v1/chatter", b"/v1/cha", b"/v1/", b"/v1/Chat", b"/v1/chat/../x", b"/v1/models/.."):
                self.assertIsInstance(self.refusal(target, policy), PathNotAllowed, target)

    def test_case_of_letters(self) -> None:
        """What is allowed is so in its own case of letters; what is denied is so in any, however it was written."""
        policy = PathPolicy(("/V1/",), ("/V1/Organization",))
        policy.check(b"/V1/models")
        for target in (b"/v1/models", b"/V1/organization/costs", b"/V1/ORGANIZATION", b"/V1/Organization"):
            self.assertIsInstance(self.refusal(target, policy), PathNotAllowed, target)

    def test_entries_may_begin_with_a_dot(self) -> None:
        """A hidden directory is a path as any other."""
        PathPolicy(("/.well-known/",), ()).check(b"/.well-known/openid-configuration")

    def test_entries_that_mean_something_else(self) -> None:
        """An entry that is no plain path is refused with its text and what to write instead."""
        for entry in (
            "",
            "v1",
            "/v1/*",
            "/v1?x",
            "/v1/%6f",
            "/v1//x",
            "/v1/../x",
            "/v1/.",
            "/a;b",
            "/é",
            "/a b",
            "/%00",
        ):
            for allow, deny in (((entry,), ()), ((), (entry,))):
                error = self.assertRaises(ValueError, PathPolicy, allow, deny)
                self.assertIn(repr(entry), str(error))
                self.assertIn("write it from the first slash on", str(error))

    def test_disguises_are_bounded(self) -> None:
        """A path that is long, or can be read in very many ways, is refused instead of being read to the end."""
        for target in (
            b"/v1/%" + b"25" * 50 + b"2f",
            b"/v1/" + b"a" * 10_000 + b"%20",
            b"/v1/" + b"a" * 20_000 + b"//",
        ):
            self.assertIsInstance(self.refusal(target), PathNotAllowed)

    def test_plain_paths_may_be_long(self) -> None:
        """A plain path and a query have no length of their own: the head's limit is enough."""
        self.policy.check(b"/v1/" + b"a" * 60_000)
        self.policy.check(b"/v1/a%20b?" + b"%" * 60_000)
        self.policy.check(b"/v1/" + b"a" * 3_000 + b"%20")

    @given(
        st.lists(
            st.sampled_from(
                b"/ / // /v1 v1 /organization organization /ORGANIZATION %6frganization %256frganization models v2 "
                b".. . /../ /./ %2e %2E%2e %252e %2f %2F %252f %5c %255c ; ;x=1 %3b %3f %23 %25 %20 a ? %C3%A9".split()
            ),
            max_size=8,
        ).map(lambda parts: b"/v1/" + b"".join(parts))
    )
    @example(b"/v1/a%2fb/../organization")
    @example(b"/v1/a%2fb/%2e%2e/organization")
    @example(b"/v1/a//../organization")
    @example(b"/v1/organization%23x")
    def test_no_server_lands_outside(self, target: bytes) -> None:
        """Where a target passes, no server's way of reading it leads outside the allowed or into the denied."""
        try:
            self.policy.check(target)
        except RelayError:
            return
        for server in Servers.all():
            place = server(target.split(b"?", 1)[0])
            self.assertTrue(is_in(place, b"/v1"), place)
            self.assertFalse(is_in(place.lower(), b"/v1/organization"), place)

    @given(st.lists(st.from_regex(rb"[A-Za-z0-9_-][A-Za-z0-9_.:~-]{0,8}", fullmatch=True), min_size=1, max_size=6))
    def test_no_plain_path_is_refused_by_mistake(self, segments: list[bytes]) -> None:
        """A path of plain names passes exactly when its first are not the denied ones."""
        target = b"/v1/" + b"/".join(segments)
        if segments[0].lower() == b"organization":
            self.assertIsInstance(self.refusal(target), PathNotAllowed)
        else:
            self.policy.check(target)

    @given(st.binary(max_size=40))
    def test_any_bytes(self, tail: bytes) -> None:
        """Whatever bytes come, the answer is to pass or one of the two refusals, and what passes is visible ASCII."""
        target = b"/v1/" + tail
        try:
            self.policy.check(target)
        except (BadRequest, PathNotAllowed):
            return
        self.assertTrue(re.fullmatch(rb"[!-~]+", target))
        self.assertFalse(set(target) & set(b"\\#"))
