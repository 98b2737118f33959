"""DigitalOcean: its API, what it answered, and how a token's request budget is spent.

May use `resource`, the ground modules and httpx; knows nothing of Kubernetes. Begin with `account`: one token's reads, planned,
shared and cached. `client` and `model` are the edge.
"""
