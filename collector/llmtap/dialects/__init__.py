"""Wire dialects of LLM APIs: captured bytes in, one `Call` out. Pure: no I/O, no clock."""
