"""What the operator costs and how fast it is, measured on the sandbox: `make bench`."""
