"""A long run against servers that break in every way: `make soak`."""
