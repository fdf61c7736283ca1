"""Readings of a soak keep their shape and their bound, and a scrape is read as Prometheus would."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from tests.soak.sampling import Scrape, Series, descriptors, processor_seconds, resident


class SeriesTests(SynchronousTestCase):
    def test_bound(self) -> None:
        """A day of readings stays within its bound, evenly spread, with the first and nearly the last among them."""
        series = Series(most=100)
        for number in range(86_400):
            series.add(number)
        self.assertLessEqual(len(series.kept), 100)
        self.assertEqual({after - before for before, after in zip(series.kept, series.kept[1:], strict=False)}, {1_024})
        self.assertEqual(series.kept[0], 0)
        self.assertGreaterEqual(series.kept[-1], 86_400 - 2 * series.every)

    def test_drift(self) -> None:
        """A steady growth shows in the medians; one peak at either end does not."""
        grows, peaks = Series(), Series()
        for number in range(100):
            grows.add(1_000 + number)
            peaks.add(9_999 if number in (0, 99) else 1_000)
        self.assertEqual(grows.drift(), (1_009.5, 1_089.5))
        self.assertEqual(peaks.drift(), (1_000, 1_000))


class ScrapeTests(SynchronousTestCase):
    scrape = Scrape.of(
        "# HELP openai_relay_streams_active Exchanges.\n"
        'openai_relay_streams_active{client="a \\"b\\", c"} 2.0\n'
        'openai_relay_streams_active{client="d"} 1.0\n'
        'openai_relay_exchanges_ended_total{end="done"} 7.0\n'
        'openai_relay_exchanges_ended_total{end="bug"} 0.0\n'
        "openai_relay_connections 3.0\n"
        "process_open_fds 9.0\n"
    )

    def test_totals(self) -> None:
        """Series of one name are added up, all of them or those with a label; one that is not there is 0."""
        self.assertEqual(self.scrape.total("openai_relay_streams_active"), 3)
        self.assertEqual(self.scrape.total("openai_relay_streams_active", client="d"), 1)
        self.assertEqual(self.scrape.total("openai_relay_connections"), 3)
        self.assertEqual(self.scrape.total("openai_relay_nothing"), 0)

    def test_by_label(self) -> None:
        """The values of a label are told apart, whatever stands in them."""
        self.assertEqual(self.scrape.by("openai_relay_streams_active", "client"), {'a \\"b\\", c': 2, "d": 1})
        self.assertEqual(self.scrape.by("openai_relay_exchanges_ended_total", "end"), {"done": 7})


class ProcessTests(SynchronousTestCase):
    def test_own_process(self) -> None:
        """A process is measured by what the kernel says of it: one more open file is one more descriptor."""
        pid = os.getpid()
        before = descriptors(pid)
        read, write = os.pipe()
        self.assertEqual(descriptors(pid), before + 2)
        os.close(read)
        os.close(write)
        self.assertGreater(resident(pid), 1 << 20)
        self.assertGreater(processor_seconds(pid), 0)
