"""Where what the collector stores comes from."""
