"""A self-hosted gate to the OpenAI API in which a client certificate is the account."""
