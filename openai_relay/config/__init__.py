"""TOML and command-line options in, checked and frozen settings out; what is wrong is said with file, line and key."""
