"""A real Kubernetes control plane on this machine, for tests: built from Go modules, on loopback, with RBAC."""
