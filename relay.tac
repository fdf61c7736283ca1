"""``twistd -ny relay.tac``: the relay as ``$OPENAI_RELAY_CONFIG`` or ``./relay.toml`` describes it."""

import os

from twisted.application.service import Application

from openai_relay.tap import Options, makeService

application = Application("openai-relay")
makeService(Options.of_file(os.environ.get("OPENAI_RELAY_CONFIG", "relay.toml"))).setServiceParent(application)
