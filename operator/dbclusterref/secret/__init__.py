"""From what was read upstream to the Secret as it must be, and what tells it from the one in the cluster.

Pure: no I/O, no clock, no framework. May use `digitalocean.model`, `digitalocean.snapshot` and `resource`. Begin with
`rendering`.
"""
