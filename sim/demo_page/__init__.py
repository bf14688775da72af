"""The demo's checkout page and the small server of the shop behind it."""
