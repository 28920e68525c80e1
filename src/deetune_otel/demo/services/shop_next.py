# SPDX-License-Identifier: Apache-2.0
"""The shop's next build, which nobody uses yet: something to replay recorded traffic against.

Three things are not as they were, as it happens: some prices, an answer that is an error now,
and a call to Redis that nobody made before.
"""

from __future__ import annotations

from http import HTTPStatus

from deetune_otel.demo.services.shop import Answer, Shop, main

__all__ = ["NextShop"]


class NextShop(Shop):
    def product(self, number: str) -> Answer:
        status, product = super().product(number)
        if number.endswith("7") and isinstance(product, dict) and "price" in product:
            product["price"] += 1
        if number.endswith("8"):
            status = HTTPStatus.SERVICE_UNAVAILABLE
        if number.endswith("9"):
            self._cache.exists("promotion")
        return status, product


if __name__ == "__main__":
    main(NextShop, schema="")
