"""The control flow, written once for all colours: see `engine.py` for the map of this room."""
