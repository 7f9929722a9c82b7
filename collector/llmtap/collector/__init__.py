"""The collector: reads the spool, understands calls, stores them, answers questions about them."""
