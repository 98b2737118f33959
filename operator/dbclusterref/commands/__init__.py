"""The commands, their settings, and what `run` wires together, serves and logs.

May use everything. Begin with `run`.
"""
