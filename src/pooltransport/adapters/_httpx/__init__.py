"""What the adapters for httpx and its successor httpx2 share. They differ in the modules they are given.

Rules:

1. Our transports inherit from the library's own and put another pool into it, as it puts in httpcore's. What stands
   around that library, be it for spans, mocks or cassettes, replaces `HTTPTransport.handle_request`, and must meet
   ours there: a test that mocks must never reach the network.
2. Nothing is decoded here, and no header added: both are the client's business.
3. Every error of ours leaves as that library's own, chained, with our text.
"""
