"""TLS right on the socket, in memory: a `TLSServer` on a socket double, and OpenSSL at the far end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from OpenSSL import SSL, crypto
from OpenSSL._util import lib
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHandshakeListener,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides
from zope.interface.verify import verifyObject

from openai_relay.tls.server import TLSPort, TLSServer
from openai_relay.tls.transport import TLSTruncated
from tests import certificates
from tests.doubles import MemorySocket, PausableSource, Recorder, TLSPeer, TurningReactor, client_context

RECORD = 16_384
#: What Twisted queues before it pauses a producer.
QUEUE = 65_536


def as_openssl_says(*results: Any) -> bool:
    return bool(results[-1])


def server_context(verify: Callable[..., bool] = as_openssl_says) -> SSL.Context:
    """A server that asks every client for a certificate of the usual authority."""
    credential = certificates.server()
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(credential.certificate)
    context.use_privatekey(credential.private_key)
    context.set_options(SSL.OP_NO_TICKET)
    store = context.get_cert_store()
    assert store is not None
    store.add_cert(crypto.X509.from_cryptography(certificates.authority().certificate))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
    return context


def listening(reactor: TurningReactor, verify: Callable[..., bool] = as_openssl_says) -> TLSPort:
    """A port that accepts what the test hands to it."""
    return TLSPort(0, Factory(), partial(server_context, verify), 50, "127.0.0.1", reactor)


class Accepted:
    """A connection that a server has just accepted, and the client at its other end."""

    def __init__(
        self,
        reactor: TurningReactor,
        client: SSL.Context | None = None,
        port: TLSPort | None = None,
    ) -> None:
        self.reactor = reactor
        self.socket = MemorySocket()
        self.protocol = Recorder()
        directlyProvides(self.protocol, IHandshakeListener)
        self.peer = TLSPeer(client or client_context(certificates.client()))
        sock: Any = self.socket
        port = port or listening(reactor)
        self.transport = TLSServer(sock, self.protocol, ("192.0.2.7", 40_000), port, 0, reactor)
        self.protocol.makeConnection(self.transport)

    def deliver(self) -> None:
        """Let both ends work until nothing is under way any more."""
        while True:
            self.socket.inbound += self.peer.take()
            self.reactor.settle()
            sent = self.socket.take()
            if not sent:
                return
            self.peer.feed(sent)

    def deliver_once(self) -> None:
        """As `deliver`, though the server may have stopped reading."""
        self.socket.inbound += self.peer.take()
        self.reactor.settle()
        self.peer.feed(self.socket.take())

    def shake_hands(self) -> None:
        """Do the handshake."""
        self.peer.step()
        self.deliver()

    def lost(self) -> BaseException | None:
        """What the protocol was told when the connection was lost; ``None``: it is not."""
        return None if self.protocol.lost is None else self.protocol.lost.value


class TransportCase(SynchronousTestCase):
    """Has a reactor, and connections on it."""

    def setUp(self) -> None:
        self.reactor = TurningReactor()
        self.port = listening(self.reactor)

    def accept(self, client: SSL.Context | None = None, port: TLSPort | None = None) -> Accepted:
        return Accepted(self.reactor, client, port or self.port)

    def connected(self) -> Accepted:
        connection = self.accept()
        connection.shake_hands()
        self.assertEqual(connection.protocol.handshakes, 1)
        return connection


class HandshakeTests(TransportCase):
    def test_both_know_each_other(self) -> None:
        """After the handshake the protocol is told, once, and sees whose certificate it was."""
        connection = self.connected()
        certificate = connection.transport.tls.get_peer_certificate(as_cryptography=True)
        self.assertEqual(certificate, certificates.client().certificate)
        self.assertTrue(connection.transport.handshaken)
        self.assertTrue(connection.peer.handshaken)

    def test_bytes_that_come_one_by_one(self) -> None:
        """A handshake and a message that trickle in byte by byte are understood."""
        connection = self.accept()
        peer = connection.peer
        peer.step()
        for _ in range(4):
            for byte in peer.take():
                connection.socket.inbound.append(byte)
                self.reactor.settle()
            peer.feed(connection.socket.take())
        peer.write(b"hello")
        for byte in peer.take():
            connection.socket.inbound.append(byte)
            self.reactor.settle()
        self.assertEqual(connection.protocol.blocks, [b"hello"])

    def test_data_behind_the_handshake(self) -> None:
        """What the client sends in one go with the end of its handshake is handed up after the handshake."""
        connection = self.accept()
        order: list[str] = []
        connection.protocol.on_handshake = lambda: order.append("handshake")
        connection.protocol.on_data = lambda data: order.append(data.decode())
        peer = connection.peer
        peer.step()
        connection.socket.inbound += peer.take()
        self.reactor.settle()
        peer.feed(connection.socket.take())
        peer.write(b"at once")
        connection.deliver()
        self.assertEqual(order, ["handshake", "at once"])

    def test_writes_before_the_handshake(self) -> None:
        """What is written before the handshake is sent in order, and only once the handshake is done."""
        connection = self.accept()
        connection.transport.write(b"one ")
        connection.transport.writeSequence([b"two ", b"three"])
        self.assertEqual(connection.socket.outbound, b"")
        connection.shake_hands()
        self.assertEqual(connection.peer.received, b"one two three")

    def test_writes_for_a_refused_client(self) -> None:
        """What is written before a handshake that fails is sent to nobody, then or later."""
        connection = self.accept(client_context())
        connection.transport.write(b"for alice only")
        connection.shake_hands()
        connection.transport.write(b"for alice only")
        connection.deliver()
        self.assertEqual(connection.peer.received, b"")
        self.assertEqual(connection.protocol.handshakes, 0)

    def test_refused_client_gets_the_alert(self) -> None:
        """A client without a certificate reads why, and the socket stays open until it has hung up."""
        connection = self.accept(client_context())
        connection.shake_hands()
        self.assertIn("certificate required", str(connection.peer.error))
        self.assertEqual(len(connection.protocol.refused), 1)
        self.assertTrue(connection.socket.sent_fin)
        self.assertFalse(connection.socket.closed)
        connection.socket.ended = True
        self.reactor.settle()
        self.assertTrue(connection.socket.closed)
        self.assertFalse(connection.socket.reset)
        self.assertIs(connection.lost(), connection.protocol.refused[0])

    def test_refused_client_is_not_listened_to(self) -> None:
        """What a refused client goes on sending is looked at by nobody."""
        connection = self.accept(client_context())
        peer = connection.peer
        peer.step()
        connection.socket.inbound += peer.take()
        self.reactor.settle()
        peer.feed(connection.socket.take())
        peer.write(b"GET / HTTP/1.1\r\n\r\n")
        connection.deliver()
        connection.socket.inbound += b"\x00" * 100_000
        self.reactor.settle()
        self.assertEqual(connection.protocol.blocks, [])
        self.assertEqual(connection.socket.inbound, b"")

    def test_garbage_instead_of_a_hello(self) -> None:
        """Plain HTTP on the TLS port is refused in the handshake; nothing is handed up."""
        connection = self.accept()
        connection.socket.inbound += b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        self.reactor.settle()
        self.assertIsInstance(connection.protocol.refused[0], SSL.Error)
        self.assertTrue(connection.socket.sent_fin)
        self.assertEqual(connection.protocol.blocks, [])

    def test_leaving_during_the_handshake(self) -> None:
        """A client that hangs up in the middle of the handshake is lost, and was never there."""
        connection = self.accept()
        connection.peer.step()
        connection.socket.inbound += connection.peer.take()[:50]
        connection.socket.ended = True
        self.reactor.settle()
        self.assertIsInstance(connection.lost(), ConnectionLost)
        self.assertNotIsInstance(connection.lost(), TLSTruncated)
        self.assertEqual(connection.protocol.handshakes, 0)

    def test_protocol_that_refuses(self) -> None:
        """A protocol that drops the connection as the handshake ends is not given what came with it."""
        connection = self.accept()
        connection.protocol.on_handshake = connection.transport.abortConnection
        peer = connection.peer
        peer.step()
        connection.socket.inbound += peer.take()
        self.reactor.settle()
        peer.feed(connection.socket.take())
        peer.write(b"hello")
        connection.deliver()
        self.assertEqual(connection.protocol.blocks, [])
        self.assertTrue(connection.socket.reset)


class ReadingTests(TransportCase):
    def test_one_block_for_what_came_together(self) -> None:
        """All that one read of the socket brought is handed up in one block, however many records it was."""
        connection = self.connected()
        for piece in (b"a", b"b" * 20_000, b"c"):
            connection.peer.write(piece)
        connection.deliver()
        self.assertEqual(connection.protocol.blocks, [b"a" + b"b" * 20_000 + b"c"])

    def test_large_messages(self) -> None:
        """A message of many records arrives whole and in order."""
        message = bytes(range(256)) * 4_000
        connection = self.connected()
        connection.peer.write(message)
        connection.deliver()
        self.assertEqual(connection.protocol.received, message)

    def test_paused(self) -> None:
        """Nothing is read while the transport is paused, and everything after it is resumed."""
        connection = self.connected()
        connection.transport.pauseProducing()
        connection.peer.write(b"x" * 200_000)
        sent = connection.peer.take()
        connection.socket.inbound += sent
        self.reactor.settle()
        self.assertEqual(len(connection.socket.inbound), len(sent))
        connection.transport.resumeProducing()
        connection.deliver()
        self.assertEqual(connection.protocol.received, b"x" * 200_000)

    def test_paused_in_the_middle(self) -> None:
        """A protocol that pauses as it gets a block gets no further one before it resumes."""
        connection = self.connected()
        connection.protocol.on_data = lambda data: connection.transport.pauseProducing()
        connection.peer.write(b"x" * 200_000)
        connection.deliver_once()
        self.assertEqual(len(connection.protocol.blocks), 1)
        connection.protocol.on_data = lambda data: None
        connection.transport.resumeProducing()
        connection.deliver()
        self.assertEqual(len(connection.protocol.received), 200_000)

    def test_goodbye(self) -> None:
        """A close_notify ends the connection cleanly, after what came before it has been handed up."""
        connection = self.connected()
        connection.peer.write(b"last words")
        connection.peer.tls.shutdown()
        connection.deliver()
        self.assertEqual(connection.protocol.received, b"last words")
        self.assertIsInstance(connection.lost(), ConnectionDone)

    def test_truncation(self) -> None:
        """A FIN without a close_notify is reported as a truncation, which nobody can take for a clean end."""
        connection = self.connected()
        connection.peer.write(b"half a sen")
        connection.socket.inbound += connection.peer.take()
        connection.socket.ended = True
        self.reactor.settle()
        self.assertEqual(connection.protocol.received, b"half a sen")
        self.assertIsInstance(connection.lost(), TLSTruncated)
        self.assertIsInstance(connection.lost(), ConnectionLost)

    def test_reset(self) -> None:
        """A reset is told as a lost connection."""
        connection = self.connected()
        connection.socket.broken = True
        self.reactor.settle()
        self.assertIsInstance(connection.lost(), ConnectionLost)

    def test_peer_that_left_is_seen_while_paused(self) -> None:
        """That the peer has gone is seen without reading, though its last bytes wait unread."""
        connection = self.connected()
        connection.transport.pauseProducing()
        self.assertFalse(connection.transport.peer_has_closed())
        connection.peer.write(b"x" * 100_000)
        connection.socket.inbound += connection.peer.take()
        connection.socket.ended = True
        self.reactor.settle()
        self.assertTrue(connection.transport.peer_has_closed())
        self.assertIsNone(connection.lost())

    def test_lost_connection_has_a_closed_peer(self) -> None:
        """Once the connection is lost, the peer has closed."""
        connection = self.connected()
        connection.transport.abortConnection()
        self.reactor.settle()
        self.assertTrue(connection.transport.peer_has_closed())


class CorruptionTests(TransportCase):
    """A record that was not made by the peer's TLS."""

    #: An application data record that nobody encrypted.
    FORGED = b"\x17\x03\x03\x00\x20" + b"\x55" * 32

    def test_forged_record(self) -> None:
        """What came before a forged record is handed up, and the connection ends with the error."""
        connection = self.connected()
        connection.peer.write(b"good")
        connection.socket.inbound += connection.peer.take() + self.FORGED
        self.reactor.settle()
        self.assertEqual(connection.protocol.received, b"good")
        self.assertIsInstance(connection.lost(), SSL.Error)

    def test_answer_into_a_broken_connection(self) -> None:
        """Answering what came before a forged record, and closing, raises nothing and ends the connection."""
        connection = self.connected()

        def answer(data: bytes) -> None:
            connection.transport.write(b"answer" * 5_000)
            connection.transport.loseConnection()

        connection.protocol.on_data = answer
        connection.peer.write(b"good")
        connection.socket.inbound += connection.peer.take() + self.FORGED
        self.reactor.settle()
        self.assertEqual(connection.protocol.received, b"good")
        self.assertIsNotNone(connection.lost())

    def test_others_go_on(self) -> None:
        """What one connection does to OpenSSL's error queue never ends another, nor a handshake under way."""
        neighbour, newcomer = self.connected(), self.accept()
        newcomer.peer.step()
        hello = newcomer.peer.take()
        broken = self.connected()
        broken.protocol.on_data = lambda data: broken.transport.loseConnection()
        broken.peer.write(b"good")
        broken.socket.inbound += broken.peer.take() + self.FORGED
        self.reactor.settle()

        neighbour.peer.write(b"x" * 10_000)
        record = neighbour.peer.take()
        neighbour.socket.inbound += record[:5_000]
        self.reactor.settle()
        self.assertIsNone(neighbour.lost())
        neighbour.socket.inbound += record[5_000:]
        self.reactor.settle()
        self.assertEqual(neighbour.protocol.received, b"x" * 10_000)
        newcomer.socket.inbound += hello[:100]
        self.reactor.settle()
        newcomer.socket.inbound += hello[100:]
        newcomer.deliver()
        self.assertEqual(newcomer.protocol.handshakes, 1)

    def test_nothing_is_left_behind(self) -> None:
        """OpenSSL's error queue, which its older versions consult for every connection, is left empty."""
        lets_all_pass = listening(self.reactor, lambda *results: True)
        lenient = self.accept(client_context(certificates.garbled()), lets_all_pass)
        left: list[int] = []
        lenient.protocol.on_handshake = lambda: left.append(lib.ERR_peek_error())
        lenient.shake_hands()
        self.assertEqual(left, [0])
        for end in (TLSServer.loseConnection, TLSServer.loseWriteConnection, TLSServer.cutConnection):
            broken = self.connected()
            broken.protocol.on_data = lambda data, end=end, transport=broken.transport: (  # type: ignore[misc]
                transport.write(data),
                end(transport),
            )
            broken.peer.write(b"good")
            broken.socket.inbound += broken.peer.take() + self.FORGED
            self.reactor.settle()
            self.assertEqual(lib.ERR_peek_error(), 0)


class WritingTests(TransportCase):
    def test_sizes(self) -> None:
        """Messages of any length arrive whole and in order: none, one byte, a record and one more, many records."""
        connection = self.connected()
        sent = b""
        for size in (0, 1, RECORD - 1, RECORD, RECORD + 1, 100_000, 3, 1_000_000):
            block = bytes([size % 251]) * size
            connection.transport.write(block)
            sent += block
        connection.deliver()
        self.assertEqual(connection.peer.received, sent)

    def test_sent_at_once(self) -> None:
        """What the socket takes is on its way when write returns, without a turn of the reactor."""
        connection = self.connected()
        connection.transport.write(b"data: 1\n\n")
        connection.peer.feed(connection.socket.take())
        self.assertEqual(connection.peer.received, b"data: 1\n\n")
        self.assertTrue(connection.socket.no_delay)

    def test_sequence_shares_records(self) -> None:
        """The blocks of a sequence go out in one record, not in one each."""
        one, sequence = self.connected(), self.connected()
        one.transport.write(b"abc" * 100)
        self.reactor.settle()
        sequence.transport.writeSequence([b"abc"] * 100)
        self.assertEqual(len(sequence.socket.outbound), len(one.socket.outbound))

    def test_socket_that_takes_little(self) -> None:
        """What the socket does not take is sent later, in order, whatever amounts it takes."""
        connection = self.connected()
        connection.socket.room = 10
        message = bytes(range(256)) * 1_000
        connection.transport.write(message[:100_000])
        connection.transport.write(message[100_000:])
        for room in (0, 1, 7, 1_000, 50_000, 1 << 30):
            connection.socket.room = room
            connection.deliver()
        self.assertEqual(connection.peer.received, message)

    def test_back_pressure(self) -> None:
        """A producer is paused when more waits than the queue holds, and resumed when all of it is sent."""
        connection = self.connected()
        source = PausableSource()
        connection.transport.registerProducer(source, True)
        connection.socket.room = 0
        connection.transport.write(b"x" * (QUEUE - RECORD))
        self.assertEqual(source.told, [])
        connection.transport.write(b"x" * (2 * RECORD))
        self.assertEqual(source.told, ["pause"])
        connection.socket.room = 1_000
        connection.deliver()
        self.assertEqual(source.told, ["pause"])
        connection.socket.room = 1 << 30
        connection.deliver()
        self.assertEqual(source.told, ["pause", "resume"])

    def test_write_from_within_a_read(self) -> None:
        """Writing while a block is handed up is safe: an echo returns what it got."""
        connection = self.connected()
        connection.protocol.on_data = connection.transport.write
        message = bytes(range(256)) * 1_000
        connection.peer.write(message)
        connection.deliver()
        self.assertEqual(connection.peer.received, message)

    def test_write_after_the_end(self) -> None:
        """Writing to a connection that was closed, or is lost, does nothing."""
        connection = self.connected()
        connection.transport.loseConnection()
        connection.transport.write(b"too late")
        connection.deliver()
        self.assertIsNotNone(connection.lost())
        connection.transport.write(b"too late")
        self.assertEqual(connection.peer.received, b"")

    def test_write_to_a_broken_socket(self) -> None:
        """Writing to a connection that was reset raises nothing, and the reset is reported."""
        connection = self.connected()
        connection.transport.pauseProducing()
        connection.socket.broken = True
        connection.transport.write(b"x" * 100_000)
        self.reactor.settle()
        self.assertIsInstance(connection.lost(), ConnectionLost)


class GatheringTests(TransportCase):
    """What is written in one turn after something else has been: sent when the turn is over, never later."""

    def setUp(self) -> None:
        super().setUp()
        self.first, self.second = self.connected(), self.connected()
        self.reactor.settle()

    def arrived(self, connection: Accepted) -> bytes:
        """What has arrived at the client now, without any further turn."""
        connection.peer.feed(connection.socket.take())
        return connection.peer.received

    def test_end_of_the_turn(self) -> None:
        """The first block goes out at once; the others, of whatever connection, together when the turn ends."""
        self.first.transport.write(b"1")
        self.second.transport.write(b"2")
        self.first.transport.write(b"3")
        self.second.transport.write(b"4")
        self.assertEqual((self.arrived(self.first), self.arrived(self.second)), (b"1", b""))
        self.reactor.turn()
        self.assertEqual((self.arrived(self.first), self.arrived(self.second)), (b"13", b"24"))

    def test_next_turn(self) -> None:
        """In the next turn it is as in the first."""
        for number in (b"1", b"2", b"3"):
            self.first.transport.write(number)
            self.assertTrue(self.arrived(self.first).endswith(number))
            self.reactor.turn()

    def test_large_blocks(self) -> None:
        """Of much, no more than two records are held."""
        self.first.transport.write(b"1")
        self.second.transport.write(b"x" * 100_000)
        self.assertGreaterEqual(len(self.arrived(self.second)), 100_000 - 2 * RECORD)
        self.reactor.turn()
        self.assertEqual(len(self.arrived(self.second)), 100_000)

    def test_close(self) -> None:
        """Closing sends what was held before it, whether it says goodbye or not."""
        for end in (TLSServer.loseConnection, TLSServer.loseWriteConnection, TLSServer.cutConnection):
            connection = self.connected()
            self.first.transport.write(b"1")
            connection.transport.write(b"last words")
            end(connection.transport)
            self.reactor.settle()
            self.assertEqual(self.arrived(connection), b"last words")
            self.assertEqual(connection.peer.notified, end is not TLSServer.cutConnection)

    def test_abort(self) -> None:
        """Aborting drops what was held, and the end of the turn finds nothing to do."""
        self.first.transport.write(b"1")
        self.second.transport.write(b"2")
        self.second.transport.abortConnection()
        self.reactor.settle()
        self.assertEqual(self.arrived(self.second), b"")
        self.assertIsInstance(self.second.lost(), ConnectionAborted)

    def test_lost_meanwhile(self) -> None:
        """So does losing the connection."""
        self.first.transport.write(b"1")
        self.second.transport.write(b"2")
        self.second.transport.connectionLost(Failure(ConnectionDone()))
        self.reactor.settle()
        self.assertIsInstance(self.second.lost(), ConnectionDone)

    def test_held_while_reading(self) -> None:
        """What is held does not keep the connection from being read, nor is it sent twice."""
        self.first.transport.write(b"1")
        self.second.transport.write(b"2")
        self.second.peer.write(b"question")
        self.second.deliver()
        self.assertEqual((self.second.protocol.received, self.second.peer.received), (b"question", b"2"))


class ClosingTests(TransportCase):
    def test_close_flushes_and_says_goodbye(self) -> None:
        """Closing sends all that is queued, then a close_notify, then closes."""
        connection = self.connected()
        connection.socket.room = 0
        connection.transport.write(b"x" * 50_000)
        connection.transport.loseConnection()
        self.reactor.settle()
        self.assertFalse(connection.socket.closed)
        connection.socket.room = 1 << 30
        connection.deliver()
        self.assertEqual(connection.peer.received, b"x" * 50_000)
        self.assertTrue(connection.peer.notified)
        self.assertTrue(connection.socket.closed)
        self.assertFalse(connection.socket.reset)
        self.assertIsInstance(connection.lost(), ConnectionDone)

    def test_close_while_paused(self) -> None:
        """A paused connection closes too: it does not wait for the peer's close_notify."""
        connection = self.connected()
        connection.transport.pauseProducing()
        connection.transport.loseConnection()
        self.reactor.settle()
        self.assertTrue(connection.socket.closed)

    def test_cut_flushes_and_says_nothing(self) -> None:
        """Cutting sends all that is queued, and closes without a close_notify: the peer sees a truncation."""
        connection = self.connected()
        connection.socket.room = 0
        connection.transport.write(b"x" * 50_000)
        connection.transport.cutConnection()
        connection.socket.room = 1 << 30
        connection.deliver()
        self.assertEqual(connection.peer.received, b"x" * 50_000)
        self.assertFalse(connection.peer.notified)
        self.assertTrue(connection.socket.closed)

    def test_half_close(self) -> None:
        """After closing the writing side the peer is told goodbye, and what it still sends is handed up."""
        connection = self.connected()
        connection.transport.write(b"answer")
        connection.transport.loseWriteConnection()
        connection.transport.write(b"too late")
        connection.deliver()
        self.assertEqual((connection.peer.received, connection.peer.notified), (b"answer", True))
        self.assertTrue(connection.socket.sent_fin)
        self.assertFalse(connection.socket.closed)
        connection.peer.write(b"the rest of a large upload")
        connection.deliver()
        self.assertEqual(connection.protocol.received, b"the rest of a large upload")

    def test_abort(self) -> None:
        """Aborting drops what is queued and resets the connection."""
        connection = self.connected()
        connection.socket.room = 0
        connection.transport.write(b"x" * 50_000)
        connection.transport.abortConnection()
        connection.socket.room = 1 << 30
        connection.deliver()
        self.assertEqual(connection.peer.received, b"")
        self.assertTrue(connection.socket.reset)
        self.assertIsInstance(connection.lost(), ConnectionAborted)

    def test_abort_from_within_a_read(self) -> None:
        """A protocol that aborts as it gets a block gets nothing more."""
        connection = self.connected()
        connection.protocol.on_data = lambda data: connection.transport.abortConnection()
        connection.peer.write(b"x" * 500_000)
        connection.deliver_once()
        connection.deliver_once()
        self.assertEqual(len(connection.protocol.blocks), 1)
        self.assertIsInstance(connection.lost(), ConnectionAborted)

    def test_close_from_within_a_read(self) -> None:
        """Closing as the request comes in sends the answer and goodbye, though the peer sends on."""
        connection = self.connected()

        def answer(data: bytes) -> None:
            connection.transport.write(b"no")
            connection.transport.loseConnection()

        connection.protocol.on_data = answer
        connection.peer.write(b"x" * 500_000)
        connection.deliver()
        self.assertEqual((connection.peer.received, connection.peer.notified), (b"no", True))
        self.assertEqual(len(connection.protocol.blocks), 1)


class ProgressTests(TransportCase):
    """What the kernel knows of the peer."""

    def test_acknowledged(self) -> None:
        """Bytes that the peer's kernel has taken are counted while the rest of them waits."""
        connection = self.connected()
        before = connection.transport.acknowledged()
        connection.socket.room = 1_000
        connection.transport.write(b"x" * 100_000)
        self.assertEqual(connection.transport.acknowledged(), before + 1_000)

    def test_lost(self) -> None:
        """Of a connection that is lost there is nothing to count."""
        connection = self.connected()
        connection.transport.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(connection.transport.acknowledged(), 0)


class InterfaceTests(TransportCase):
    def test_transport(self) -> None:
        """A transport keeps the interfaces of Twisted's own."""
        transport = self.connected().transport
        verifyObject(ITCPTransport, transport)
        verifyObject(IPushProducer, transport)
