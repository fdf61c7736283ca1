"""What the canary tests share: an upstream and a client that put canaries into all they say, and the search."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import Final

from tests.integration.by_hand import ClientByHand, Conversation, UpstreamByHand
from tests.integration.canaries import Canary, Nest, files_below
from tests.integration.running import Relay, Site, SiteTestCase

VISIBLE: Final = "path"
KEYS: Final = ("server.key", "client.key", "upstream.key", "authority/ca.key", "upstream-authority/ca.key")
#: Files of a site that hold what they are there for.
HOLDERS: Final = frozenset({*KEYS, "openai.key"})
WAYS: Final = (
    "unary",
    "stream",
    "error",
    "redirect",
    "no_http",
    "bad_head",
    "bad_status",
    "two_lengths",
    "bad_length",
    "bad_coding",
    "cut_head",
    "short",
    "bad_chunk",
    "bad_trailer",
    "cut_stream",
    "reset",
    "nothing",
)


def new_nest(site: Site) -> Nest:
    """Canaries for whatever a client and an upstream send, and the site's own secrets."""
    nest = Nest()
    nest.add(Canary("upstream key", site.api_key, site.api_key.removeprefix("sk-canary-")))
    nest.add(Canary.make("Authorization", "sk-proj-{}"))
    nest.add(Canary.make("subprotocol", "openai-insecure-api-key.sk-{}"))
    for name in KEYS:
        nest.add_key(name, site.file(name).read_bytes())
    return nest


class Answering:
    """An upstream that answers as the query says, and puts canaries into all it says."""

    def __init__(self, site: Site, nest: Nest) -> None:
        self._nest = nest
        self._upstream = UpstreamByHand(site)
        self.url = self._upstream.url
        self.seen: list[str] = []  #: heads of requests, to prove that they did arrive
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._upstream.close()

    def _run(self) -> None:
        while True:
            try:
                connection = self._upstream.accept_bare()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, bare: socket.socket) -> None:
        try:
            with bare:
                conversation = Conversation(self._upstream._tls.wrap_socket(bare, server_side=True))
                head = conversation.read_head()
                self.seen.append(head)
                way = head.partition("way=")[2].partition(" ")[0].partition("&")[0]
                self._answer(conversation, way, head)
                conversation.reset() if way == "reset" else conversation.leave()
        except (OSError, ssl.SSLError, AssertionError, ValueError):
            pass  # the relay has hung up on what it was sent, as it must

    def _answer(self, to: Conversation, way: str, head: str) -> None:
        body, field = self._nest["answer"], self._nest["answer's field"]
        ok = f"HTTP/1.1 200 OK\r\nX-Secret: {field}\r\nConnection: close\r\n"
        events = f"{ok}Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        event = f"data: {body}\n\n"
        chunk = f"{len(event):x}\r\n{event}\r\n"
        error = f'{{"error": {{"message": "{body}", "code": "{body}", "type": null, "param": null}}}}'
        whole = f"Content-Length: {len(body)}\r\n\r\n{body}"
        told = {
            "unary": ok + whole,
            "stream": f"{events}{chunk}0\r\nX-Trailer: {body}\r\n\r\n",
            "error": f"HTTP/1.1 500 {field}\r\nConnection: close\r\nContent-Length: {len(error)}\r\n\r\n{error}",
            "redirect": f"HTTP/1.1 302 Found\r\nLocation: /{field}\r\nSet-Cookie: a={body}\r\n"
            "Content-Length: 0\r\n\r\n",
            "no_http": f"220 {body} ready\r\n\r\n",
            "bad_head": f"HTTP/1.1 200 OK\r\nX-Secret: {field}\x01\r\n{whole}",
            "bad_status": f"HTTP/1.1 {body} OK\r\n{whole}",
            "two_lengths": f"{ok}Content-Length: 1\r\n{whole}",
            "bad_length": f"{ok}Content-Length: {body}\r\n\r\n{body}",
            "bad_coding": f"{ok}Transfer-Encoding: {body}\r\n\r\n{body}",
            "cut_head": f"{ok}X-Cut: {body}",
            "short": f"{ok}Content-Length: 1000\r\n\r\n{body}",
            "bad_chunk": f"{events}{chunk}{body}\r\n",
            "bad_trailer": f"{events}{chunk}0\r\n {body}\x01\r\n\r\n",
            "cut_stream": events + chunk,
            "reset": events + chunk,
            "nothing": "",
        }
        if way == "tunnel":
            offered = [line for line in head.split("\r\n") if line.lower().startswith("sec-websocket-protocol")]
            protocol = offered[0] + "\r\n" if offered else ""
            text = body.encode()
            to.send(
                f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {field}\r\n{protocol}\r\n".encode()
                + bytes((0x81, len(text)))
                + text
                # An ill-formed frame after a good one, for the passive reader to stumble over.
                + bytes((0xFF, 0xFF))
                + text * 10
            )
            to.read(60)
        else:
            to.send(told.get(way, "").encode("latin-1"))  # whoever says no way gets no answer


class CanaryCase(SiteTestCase):
    """Puts canaries into everything, and looks for them in everything."""

    def setUp(self) -> None:
        self.nest = new_nest(self.site)
        self.heard: list[tuple[str, bytes]] = []  #: what the relay itself said to clients, and to the admin

    def assertSilent(self, *outputs: tuple[str, bytes]) -> None:
        """No secret is in these, nor in what was heard, nor in any file of the site."""
        files = [(name, data) for name, data in files_below(self.site.directory) if name not in HOLDERS]
        found = [
            each
            for where, data in [*outputs, *self.heard, *files]
            for each in self.nest.found(where, data, but=VISIBLE)
        ]
        if found:
            self.fail("\n".join(["", *found]))

    # A client with canaries.

    def fields(self) -> str:
        """What a client may send of its own."""
        nest = self.nest
        return (
            f"Authorization: Bearer {nest['Authorization']}\r\nApi-Key: {nest['api-key']}\r\n"
            f"Cookie: session={nest['cookie']}\r\nX-Api-Key: {nest['x-api-key']}\r\n"
            f"X-Client-Cert: {nest['claimed certificate']}\r\nUser-Agent: {nest['user agent']}\r\n"
            f"Referer: https://example.org/?{nest['referer']}\r\n"
        )

    def target(self, way: str, path: str = "/v1/files/") -> str:
        return f"{path}{self.nest[VISIBLE]}?secret={self.nest['query']}&way={way}"

    def multipart(self) -> tuple[str, bytes]:
        """Field lines and body of an upload."""
        nest = self.nest
        body = (
            f'--b\r\nContent-Disposition: form-data; name="file"; filename="{nest["file name"]}.txt"\r\n\r\n'
            f"{nest['request']}\r\n--b--\r\n"
        )
        return "Content-Type: multipart/form-data; boundary=b\r\n", body.encode()

    def exchange(self, relay: Relay, send: Callable[[ClientByHand], None], relays_own: bool = False) -> bytes:
        """All that comes back on a connection, until its end or for a moment after the answer."""
        client = ClientByHand(relay)
        got = b""
        try:
            send(client)
            client.socket.settimeout(2.0)
            while data := client.socket.recv(65_536):
                got += data
        except (OSError, ssl.SSLError, HTTPException):
            pass
        finally:
            client.leave()
        if relays_own:
            self.heard.append(("the relay's own answer", got))
        return got

    def ask(self, relay: Relay, way: str) -> bytes:
        more, body = self.multipart()
        fields = self.fields() + more + "Connection: close\r\n"
        return self.exchange(relay, lambda client: client.request("POST", self.target(way), body, fields))

    def tunnel(self, relay: Relay) -> bytes:
        """A WebSocket with a key among its subprotocols, and a message each way."""
        fields = (
            self.fields() + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: eA==\r\nSec-WebSocket-Protocol: realtime, {self.nest['subprotocol']}\r\n"
        )

        def send(client: ClientByHand) -> None:
            text = self.nest["message"].encode()
            client.request("GET", self.target("tunnel"), fields=fields)
            client.send(bytes((0x81, 0x80 | len(text))) + b"\0\0\0\0" + text + b"\xff\xff" + text)

        return self.exchange(relay, send)

    def refusals(self) -> Iterator[bytes]:
        """Requests that the relay answers itself, or not at all."""
        nest, host, fields = self.nest, "Host: localhost\r\n", self.fields()
        secret = nest["malformed"]
        lines = f"{host}{fields}Connection: close\r\n"
        for request in (
            f"GET {self.target('unary', '/nowhere/')} HTTP/1.1\r\n{lines}\r\n",
            f"GET {self.target('unary', '/v1/organization/')} HTTP/1.1\r\n{lines}\r\n",
            f"TRACE {self.target('unary')} HTTP/1.1\r\n{lines}\r\n",
            f"GET http://someone:{secret}@localhost/v1/models HTTP/1.1\r\n{lines}\r\n",
            f"GET http://{secret}.example/v1/models HTTP/1.1\r\n{lines}\r\n",
            f"GET /v1/models?{secret}%zz HTTP/1.1\r\n{lines}\r\n",
            f"GET /v1/models?\\{secret} HTTP/1.1\r\n{lines}\r\n",
            f"GET /v1/models?{secret} {secret} HTTP/1.1\r\n{lines}\r\n",
            f"GET /v1/models HTTP/{secret}\r\n{lines}\r\n",
            f"GET /v1/models HTTP/1.1\r\n{lines}X {secret}: {secret}\r\n\r\n",
            f"GET /v1/models HTTP/1.1\r\n{lines}X-{secret}: \x01{secret}\r\n\r\n",
            f"GET /v1/models HTTP/1.1\r\nHost: {secret}/\r\n\r\n",
            f"GET /v1/models HTTP/1.1\r\n{host}Expect: {secret}\r\n\r\n",
            f"GET /v1/models HTTP/1.1\r\n{host}Connection: upgrade\r\nUpgrade: {secret}\r\n\r\n",
            f"POST /v1/files HTTP/1.1\r\n{host}Content-Length: {secret}\r\n\r\n{secret}",
            f"POST /v1/files HTTP/1.1\r\n{host}Transfer-Encoding: {secret}\r\n\r\n{secret}",
            f"POST /v1/files HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n{secret}\r\n",
            f"POST /v1/files HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n5;{secret}=\x01\r\nhello\r\n",
            f"POST /v1/files HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n {secret}\x01\r\n\r\n",
            f"GET /v1/models HTTP/1.1\r\n{host}X-Large: {secret * 2_000}\r\n\r\n",
            f"\x16\x03\x01{secret}\r\n\r\n",
        ):
            yield request.encode("latin-1")
