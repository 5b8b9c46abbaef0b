"""What looks at transports from outside: it reads `stats()` and listens to hooks, and knows nothing that is inside.

Nothing here is imported by the rest of the package; each part is imported by its own name.
"""
