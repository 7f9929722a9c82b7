"""The collector's HTTP face: health, metrics, calls, SQL."""
