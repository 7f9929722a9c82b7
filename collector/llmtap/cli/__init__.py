"""The `llmtap` command."""
