"""The Kubernetes API: the calls, how to reach it, the Lease, and what may write under it.

May use `resource`, the ground modules, aiohttp and kubernetes.aio; knows nothing of DigitalOcean. Begin with `client`.
"""
