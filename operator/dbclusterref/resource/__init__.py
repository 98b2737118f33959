"""The DatabaseClusterRef as values: its spec, its status, its metadata, and which shard owns it.

Pure: no I/O, no clock, no framework. May use `compact` and `errors`. Begin with `reference`.
"""
