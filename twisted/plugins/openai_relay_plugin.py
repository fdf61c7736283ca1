"""The ``ServiceMaker`` by which ``twistd`` finds us; every ``twistd`` on the machine runs this file."""

from twisted.application.service import ServiceMaker

openai_relay = ServiceMaker(
    "OpenAI relay",
    "openai_relay.tap",
    "A gate to the OpenAI API in which a client certificate is the account.",
    "openai-relay",
)
