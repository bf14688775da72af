"""A small simulated shop whose truth is known: shoppers, carts, takes, orders, refunds."""
