"""Bytes that nobody should send, and what must hold for them all: ``python -m tests.fuzz``."""
