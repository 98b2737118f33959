"""Keeps a Secret in sync with the DigitalOcean managed database cluster that a DatabaseClusterRef names."""
