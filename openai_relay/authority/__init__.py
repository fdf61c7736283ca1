"""The certificate authority on disk: issue, renew, revoke, list; knows no Twisted."""
