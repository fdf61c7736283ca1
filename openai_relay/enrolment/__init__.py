"""Let devices in that hold an invitation, and renew what they were given (EST, RFC 7030)."""
