"""A card processor of our own for machines without a Stripe key: the same HTTP, the same states, no real money.

It is a process of its own (`python -m ledger.rails.stripe_sandbox`) and shares nothing with the books but the database
server: its tables lie in the schema `stripe_sandbox`, and the books know of it only what they ask over HTTP.
"""
