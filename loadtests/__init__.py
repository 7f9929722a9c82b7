"""Measurements beside other systems, in one run; never part of the tests."""
