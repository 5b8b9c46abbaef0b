"""A small service that keeps a ledger at somebody else's API: what a typed project does with this library.

It is checked by mypy and pyright against the installed wheel (`make typed`), and its own tests run.
"""
