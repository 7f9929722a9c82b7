"""What the collector adds to a decoded call: money, ids, texts, status: the row."""
