"""All that decides: no I/O, no Twisted, no clock."""
