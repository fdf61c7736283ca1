"""The ``openai-relay`` commands, one file per group."""
