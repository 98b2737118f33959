"""How changes arrive: kopf's watches, what is filtered on the way, whether they are alive, and what they missed.

May use everything below; decides nothing about a resource. Begin with `informer`.
"""
