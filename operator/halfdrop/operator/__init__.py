"""The operator's room. Empty until its issue is built: warms GPU pools in Kubernetes before the surge."""
