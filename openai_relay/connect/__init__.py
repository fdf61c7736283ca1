"""``openai-relay connect``: a relay that needs a client certificate, for tools that cannot show one."""
