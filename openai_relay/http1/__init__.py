"""HTTP/1.1 on Twisted transports, both roles, on the llhttp parser; knows nothing of relays."""
