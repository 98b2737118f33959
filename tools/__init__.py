"""Development tools: what `make check` and `make mutation` run."""
