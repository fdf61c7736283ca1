"""TLS right on the socket: Twisted's TCP transports with pyOpenSSL inside."""
