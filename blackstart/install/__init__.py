"""Blackstart into a Kubernetes cluster: `blackstart up --kubernetes`."""
