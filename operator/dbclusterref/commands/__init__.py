"""What one types: `run`, `render`, `check`; their settings; and what `run` wires together, serves and logs.

May use everything. Begin with `run`.
"""
