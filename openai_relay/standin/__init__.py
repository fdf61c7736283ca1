"""A small server that answers like the OpenAI API, for the demo, the tests and the load test."""
