"""The process behind the workload `kube.ramp`: it alone imports the Kubernetes client."""
