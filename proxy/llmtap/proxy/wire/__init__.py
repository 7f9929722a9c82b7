"""HTTP/1.1 on both sides: heads, body framing, connections, pool. No policy about destinations."""
