"""The main job, shown step by step on a real Kubernetes API server: `python -m sandbox.demo`."""
