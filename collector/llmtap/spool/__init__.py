"""The spool: what proxy workers write down and the collector reads, on disk between them."""
