"""From what was read upstream to the Secret as it should be, and how it is compared with the one in the cluster.

Pure: no I/O, no clock, no framework. May use `digitalocean.model`, `digitalocean.snapshot` and `resource`. Begin with
`rendering`.
"""
