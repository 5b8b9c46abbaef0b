"""The rules, without I/O: who gets which connection, how messages are framed, what is retried."""
