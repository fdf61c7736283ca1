"""The access log: a line per exchange, and a reader who may be slow, full or gone."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.access_log import AccessLog, LineWriter
from openai_relay.core.log_line import combined_line, json_line
from openai_relay.core.settings import LogFormat
from tests.core.exchanges import done

NOW = 1_795_458_485_123_456_789
#: Seconds that a thread gets to end; a bound that nothing comes near, not an expectation.
PLENTY = 60.0


class AccessLogTests(SynchronousTestCase):
    def lines(self, log_format: LogFormat) -> list[bytes]:
        """What two exchanges leave in a format."""
        written: list[bytes] = []
        log = AccessLog(written.append, log_format, lambda: NOW)
        log.record(done())
        log.record(done(path="/v1/models"))
        return written

    def test_a_line_per_exchange(self) -> None:
        """Each exchange leaves one line, stamped with the time it ended."""
        self.assertEqual(self.lines("json"), [json_line(done(), NOW), json_line(done(path="/v1/models"), NOW)])

    def test_format(self) -> None:
        """The format is the one that was chosen."""
        self.assertEqual(self.lines("combined")[0], combined_line(done(), NOW))

    def test_off(self) -> None:
        """Switched off, nothing is written."""
        self.assertEqual(self.lines("off"), [])


class LineWriterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reader, self.descriptor = os.pipe()
        self.open = {self.reader, self.descriptor}
        self.addCleanup(self.close_all)

    def close(self, descriptor: int) -> None:
        self.open.remove(descriptor)
        os.close(descriptor)

    def close_all(self) -> None:
        for descriptor in list(self.open):
            self.close(descriptor)

    def read_all(self) -> list[bytes]:
        """All lines until the writing end is closed."""
        with os.fdopen(os.dup(self.reader), "rb") as stream:
            return stream.readlines()

    def started(self, writer: LineWriter) -> LineWriter:
        writer.start()
        self.addCleanup(writer.stop)
        return writer

    def test_lines_arrive(self) -> None:
        """Every line arrives whole and in order, those written before the start included."""
        lines = [b"%05d\n" % number for number in range(5_000)]
        writer = LineWriter(self.descriptor)
        for line in lines[:100]:
            writer.write(line)
        writer.start()
        for line in lines[100:]:
            writer.write(line)
        writer.stop(PLENTY)
        self.close(self.descriptor)
        self.assertEqual(self.read_all(), lines)
        self.assertEqual(writer.dropped, 0)

    def test_full_queue_drops_and_counts(self) -> None:
        """What does not fit into the queue is dropped and counted, and the queue is bounded in bytes."""
        writer = LineWriter(self.descriptor, queue_bytes=100)
        for number in range(30):
            writer.write(b"line %04d\n" % number)
        self.assertEqual(writer.dropped, 20)
        writer.start()
        writer.stop(PLENTY)
        self.close(self.descriptor)
        self.assertEqual(self.read_all(), [b"line %04d\n" % number for number in range(10)])

    def test_reader_who_does_not_read(self) -> None:
        """With nobody reading, writing goes on at once and lines are dropped; what is read later is whole."""
        writer = self.started(LineWriter(self.descriptor, queue_bytes=100_000))
        written = 0
        while not writer.dropped:
            writer.write(b'{"n":%d,"padding":"%s"}\n' % (written, b"x" * 200))
            written += 1
        lines: list[bytes] = []
        thread = threading.Thread(target=lambda: lines.extend(self.read_all()))
        thread.start()
        writer.stop(PLENTY)
        self.close(self.descriptor)
        thread.join()
        numbers = [json.loads(line)["n"] for line in lines]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertEqual(len(numbers) + writer.dropped, written)

    def test_written_while_it_runs(self) -> None:
        """A line does not wait for the next one, nor for the end."""
        writer = self.started(LineWriter(self.descriptor))
        for number in range(3):
            writer.write(b"line %d\n" % number)
            self.assertEqual(os.read(self.reader, 100), b"line %d\n" % number)

    def test_stop_is_bounded(self) -> None:
        """Stopping does not wait for a reader who never comes; what is given up is counted."""
        writer = LineWriter(self.descriptor)
        while not writer.dropped:
            writer.write(b"x" * 999 + b"\n")
        refused = writer.dropped
        writer.start()
        writer.stop(timeout=0.0)
        self.assertGreater(writer.dropped, refused)
        dropped = writer.dropped
        writer.write(b"too late\n")
        self.assertEqual(writer.dropped, dropped + 1)
        self.close(self.reader)  # which lets the thread end
        writer.stop(PLENTY)

    def test_reader_gone(self) -> None:
        """A closed pipe costs the lines, which are counted, and nothing else."""
        self.close(self.reader)
        writer = LineWriter(self.descriptor)
        for _ in range(5):
            writer.write(b"line\n")
        writer.start()
        writer.stop(PLENTY)
        self.assertEqual(writer.dropped, 5)

    def test_full_device(self) -> None:
        """A full disk costs the lines, which are counted."""
        descriptor = os.open("/dev/full", os.O_WRONLY)
        self.open.add(descriptor)
        writer = LineWriter(descriptor)
        for _ in range(5):
            writer.write(b"line\n")
        writer.start()
        writer.stop(PLENTY)
        self.assertEqual(writer.dropped, 5)

    def test_non_blocking_descriptor(self) -> None:
        """A descriptor that somebody else made non-blocking loses no line when it is full for a moment."""
        fcntl.fcntl(self.descriptor, fcntl.F_SETFL, os.O_NONBLOCK)
        lines = [b"%06d %s\n" % (number, b"x" * 500) for number in range(1_000)]
        writer = self.started(LineWriter(self.descriptor))
        for line in lines:
            writer.write(line)
        found: list[bytes] = []
        thread = threading.Thread(target=lambda: found.extend(self.read_all()))
        thread.start()
        writer.stop(PLENTY)
        self.close(self.descriptor)
        thread.join()
        self.assertEqual(found, lines)


class Disk:
    """Takes so many bytes a time, as told; when nothing is told any more, all of them."""

    def __init__(self, *takes: int | type[OSError]) -> None:
        self.takes = list(takes)
        self.held = bytearray()

    def __call__(self, descriptor: int, data: memoryview) -> int:
        take = self.takes.pop(0) if self.takes else len(data)
        if not isinstance(take, int):
            raise take(errno.ENOSPC, "No space left on device")
        self.held += data[:take]
        return min(take, len(data))


def batches(disk: Disk, *lines: bytes) -> LineWriter:
    """Write each line as a batch of its own, in this thread."""
    writer = LineWriter(-1, system_write=disk)
    for line in lines:
        writer.write(line)
        writer.write_batch()
    return writer


class FullDiskTests(SynchronousTestCase):
    def test_short_writes(self) -> None:
        """A line that is taken piece by piece is whole in the end."""
        disk = Disk(1, 2, 3)
        writer = batches(disk, b"abcdefgh\n")
        self.assertEqual((bytes(disk.held), writer.dropped), (b"abcdefgh\n", 0))

    def test_torn_line(self) -> None:
        """After a line that the disk took half of, the next one starts on a line of its own."""
        disk = Disk(4, OSError)
        writer = batches(disk, b'{"n":1}\n', b'{"n":2}\n', b'{"n":3}\n')
        self.assertEqual(bytes(disk.held), b'{"n"\n{"n":2}\n{"n":3}\n')
        self.assertEqual(writer.dropped, 1)

    def test_torn_line_and_still_full(self) -> None:
        """The next line starts on a line of its own however long the disk stays full."""
        disk = Disk(4, OSError, OSError, OSError, 1, OSError)
        writer = batches(disk, *(b'{"n":%d}\n' % number for number in range(6)))
        self.assertEqual(bytes(disk.held), b'{"n"\n{"n":4}\n{"n":5}\n')
        self.assertEqual(writer.dropped, 4)

    @given(st.lists(st.integers(0, 12) | st.just(OSError), max_size=12), st.integers(1, 8))
    def test_what_was_not_dropped_is_whole(self, takes: list[int | type[OSError]], count: int) -> None:
        """Whatever the disk takes or refuses, each line is whole on a line of its own, or counted."""
        disk = Disk(*takes)
        lines = [b'{"n":%d}' % number for number in range(count)]
        writer = batches(disk, *(line + b"\n" for line in lines))
        whole = [line for line in bytes(disk.held).split(b"\n")[:-1] if line in lines]
        # Not equal: what was cut just before its newline is counted, and made whole by the next line's own.
        self.assertGreaterEqual(len(whole) + writer.dropped, count)
        self.assertLessEqual(writer.dropped, sum(take is OSError for take in takes))
        self.assertEqual(whole, sorted(whole))

    def test_room_comes_back(self) -> None:
        """Once lines are written, others are taken again, and the drop before stays counted."""
        disk = Disk()
        writer = LineWriter(-1, queue_bytes=10, system_write=disk)
        for _ in range(3):
            writer.write(b"12345678\n")
            writer.write(b"dropped\n")
            writer.write_batch()
        self.assertEqual(bytes(disk.held), b"12345678\n" * 3)
        self.assertEqual(writer.dropped, 3)

    def test_batches_are_bounded(self) -> None:
        """A long queue is written in pieces, so that no copy of it is made whole."""
        disk = Disk()
        writer = LineWriter(-1, system_write=disk)
        for _ in range(1_000):
            writer.write(b"x" * 999 + b"\n")
        writer.write_batch()
        self.assertLess(len(disk.held), 100_000)
        writer.stop()
        self.assertEqual(writer.dropped, 1_000 - len(disk.held) // 1_000)
