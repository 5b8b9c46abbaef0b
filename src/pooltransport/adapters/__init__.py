"""The pool under the clients that programs use already: httpx, httpx2, requests. One module for each; none is loaded
before it is asked for.
"""
