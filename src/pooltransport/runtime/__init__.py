"""The leaves: how each colour waits, connects, sends and receives. `protocols` is the whole seam."""
