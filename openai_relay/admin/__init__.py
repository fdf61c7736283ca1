"""The admin listener: health and metrics, on an address of its own."""
