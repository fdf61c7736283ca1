"""``openai-relay demo``: a relay to try, with everything it needs, on this machine only."""
