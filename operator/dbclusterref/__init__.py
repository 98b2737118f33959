"""Keeps a Secret true to the DigitalOcean managed database cluster that a DatabaseClusterRef names."""
