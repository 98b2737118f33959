"""A real Kubernetes control plane and a DigitalOcean API on your own machine: `python -m sandbox`."""
