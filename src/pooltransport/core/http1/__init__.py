"""HTTP/1.1 as bytes and values: what one exchange sends, what it makes of the answer."""
