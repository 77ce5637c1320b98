"""Webhooks: telling somebody else's server of an order's course, to the letter of Standard Webhooks.

events → store → schedule → deliveries → sender. Nothing here raises into an order's path but an edge without its NATS;
no address is connected to that was not checked, and no log says more of an endpoint than its host. See docs/adr/0020.
"""
