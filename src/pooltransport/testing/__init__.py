"""Helpers for tests: fakes of what the network, the clock and the scheduler do. See `fakes`."""
