"""A response that nobody closes, and a pool that runs dry: what is said of them. `python examples/leak.py`."""

import logging
import sys

import pooltransport as pt
from pooltransport.demo.server import DemoServer

logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stdout)


def fetch_invoice(transport, url):
    response = transport.round_trip(pt.Request("GET", url))
    return response.status_code  # and the response is forgotten


def hold_invoices(transport, url, count):
    return [transport.round_trip(pt.Request("GET", url)) for _ in range(count)]


def main():
    with DemoServer() as server, pt.Transport(max_conns_per_host=2) as transport:
        url = f"{server.url}/bytes/10000000"
        for _ in range(5):
            fetch_invoice(transport, url)
        print("five were dropped, and limit 2 still holds:", transport.stats().leaks_by_found)

        held = hold_invoices(transport, url, 2)
        try:
            transport.round_trip(pt.Request("GET", url, timeout=pt.Timeout(acquire=0.5)))
        except pt.PoolTimeout as error:
            print("\n".join(error.__notes__))
        for response in held:
            response.close()


if __name__ == "__main__":
    main()
