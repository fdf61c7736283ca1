"""What holds for every run of the tests."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says how busy the machine is, not whether the code is right. What
# hypothesis sets up by itself on CI (the same examples every time) stays as it is.
settings.register_profile("house", settings(), deadline=None)
settings.load_profile("house")
