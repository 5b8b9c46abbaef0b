"""What `pooltransport.adapters.requests` is made of. Nothing here is public."""
