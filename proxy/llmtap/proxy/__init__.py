"""The wire: HTTP in, HTTP out, bytes and arrival times teed to the spool. Knows no JSON meaning."""
