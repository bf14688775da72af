"""The shop's own server: it serves the checkout page and reports orders with the secret key.

The browser knows only the publishable key, which cannot report an order. So the page tells the shop,
and the shop tells Rialto: the same split as in a real shop.
"""

import json
import threading
import uuid
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from sim.shop.api import Api, Json, ServiceRefused
from sim.shop.journey import goods_of, order_event
from sim.shop.world import SHOE, Shop

BODY_MAX = 4096
PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}


class ShopServer:
    """The demo shop on a port of this machine, in a thread of its own; port 0 takes a free one."""

    def __init__(
        self,
        api: Api,
        shop: Shop,
        document: Json,
        *,
        publishable_key: str,
        port: int,
        timeout_ms: int = 300,
    ) -> None:
        self._api = api
        self._shop = shop
        # The shop keeps its own copy of the script: its page loads even when Rialto is away.
        self._script = api.send("GET", "/rialto.js").content
        self._config: Json = {
            "url": api.url,
            "key": publishable_key,
            "touchpoint": document["touchpoint"],
            "experiment": document["key"],
            "currency": document["currency"],
            "timeout": timeout_ms,
            "cart": [{"name": "Running shoe", "sku": SHOE.sku, "price": SHOE.price_minor}],
        }
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def place_order(self, visitor: object, taken: object) -> str:
        """Report the order of the demo's cart, with the taken variant's offer in it; returns a message."""
        if taken and taken not in self._shop.add_ons:
            return "This shop knows no such offer."
        goods = goods_of(self._shop.baskets[0], self._shop.add_ons[str(taken)] if taken else None)
        number = uuid.uuid4().hex
        if isinstance(visitor, str) and visitor:
            event = order_event(self._shop.currency, visitor, f"page-{number}", None, goods)
            self._api.record([{"event_id": f"page-order-{number}", **event}])
        return f"Thank you: your order has the number {number[:8]}."

    def answer_get(self, path: str) -> tuple[HTTPStatus, bytes, str]:
        """Status, body and content type of a page."""
        if path == "/rialto.js":
            return HTTPStatus.OK, self._script, "text/javascript; charset=utf-8"
        if path == "/config.json":
            return HTTPStatus.OK, json.dumps(self._config).encode(), "application/json"
        if path not in PAGES:
            return HTTPStatus.NOT_FOUND, b"There is no such page.", "text/plain; charset=utf-8"
        name, kind = PAGES[path]
        return HTTPStatus.OK, resources.files("sim.demo_page").joinpath(name).read_bytes(), kind

    def answer_order(self, body: bytes) -> tuple[HTTPStatus, bytes, str]:
        """Status, body and content type of an order: the shopper's page never sees a traceback."""
        status = HTTPStatus.OK
        try:
            order: Any = json.loads(body)
            message = self.place_order(order.get("visitor"), order.get("taken"))
        except (ValueError, AttributeError):
            status, message = HTTPStatus.BAD_REQUEST, "That is no order."
        except ServiceRefused:
            # A real shop keeps the order and reports it later; this one keeps no books.
            status, message = HTTPStatus.OK, "Thank you. (Rialto is away, the order was not reported.)"
        return status, json.dumps({"message": message}).encode(), "application/json"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        shop_server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(*shop_server.answer_get(self.path.partition("?")[0]))

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                if self.path != "/order" or length > BODY_MAX:
                    self._send(HTTPStatus.NOT_FOUND, b"There is no such page.", "text/plain; charset=utf-8")
                else:
                    self._send(*shop_server.answer_order(self.rfile.read(length)))

            def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing: the demo's terminal is for the demo."""

        return Handler
